"""The page where people and a model teach each other, and the same over HTTP; needs the extra ``serve``."""
