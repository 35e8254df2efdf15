"""What ``cli.py`` registers: options and the commands that come in groups."""
