"""Members that learn from labels, with losses and samplers for a rare class."""
