"""Benchmarks: they print ratios and medians, and never pass or fail."""
