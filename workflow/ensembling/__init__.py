"""``ensemble``: from the cached scores of members to one calibrated model and its file."""
