"""The story of each command, one file a command, read top to bottom."""
