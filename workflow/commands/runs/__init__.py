"""Commands that train a run, judge it and explain it."""
