"""A run: its prepared rows, its features, its fits and what they left."""
