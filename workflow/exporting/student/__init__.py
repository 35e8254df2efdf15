"""``export --distil``: one small network that learns what the ensemble says."""
