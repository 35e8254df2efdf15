"""Rows to learn from beside the images themselves: augmented copies of the minority, and views."""
