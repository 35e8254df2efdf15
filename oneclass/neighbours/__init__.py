"""Members that score by the distance to the nearest rows of a bank of majority rows."""
