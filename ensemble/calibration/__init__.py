"""Calibration: from combined logits to probabilities that match observed frequencies."""
