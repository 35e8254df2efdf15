"""A run: its prepared rows, its features, its units and what they left."""
