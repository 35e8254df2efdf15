"""Labels flipped on purpose in real data sets: how many of them the label audit lists first."""
