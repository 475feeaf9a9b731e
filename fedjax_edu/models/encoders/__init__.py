"""One encoder a modality: content, whether it is there, and how long it is, to tokens."""
