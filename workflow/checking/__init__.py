"""``check``: what is wrong with a data set before minutes go into training."""
