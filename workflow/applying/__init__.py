"""``apply``: what people answered teaches the run, and the new file is compared with the one in use."""
