"""From a file to uint8 RGB pixels; the same for training and for scoring."""
