"""``update``: images that a finished run got wrong, and what they change."""
