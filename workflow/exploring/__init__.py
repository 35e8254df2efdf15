"""``explore``: pictures of a data set."""
