"""The commands of ``cli.py``, one per file, and the options that they share."""
