"""Rules of fusion judged on many problems with few labels, from cached score tables alone."""
