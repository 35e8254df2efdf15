"""Members that learn from the labels of both sides and know that one side is rare."""
