"""What makes one representation of a row out of the tokens of its modalities."""
