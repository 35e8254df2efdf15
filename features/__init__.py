"""Backbones, their weights, the feature cache that all members share, and the base classes of members."""
