"""``compare``: which technique is shown better than the baseline."""
