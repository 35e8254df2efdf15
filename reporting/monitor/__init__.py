"""The page of ``monitor``."""
