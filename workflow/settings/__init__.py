"""Configuration, recipes and the registry of members."""
