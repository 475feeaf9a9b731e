"""TFDS builders of real school data, one file a data set; imported only when :func:`fedjax_edu.data.load` needs them."""
