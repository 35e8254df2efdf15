"""Backbones, their weights, and the feature cache that all members and folds share."""
