"""``monitor``: what came in over days, as one page."""
