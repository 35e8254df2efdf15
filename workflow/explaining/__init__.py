"""``explain`` and ``localise``: where in the image the evidence lies."""
