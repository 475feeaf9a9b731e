"""Published weights, read into models and written back in the layout they came in."""
