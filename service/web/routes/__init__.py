"""One module per concern; each has a ``router`` that :mod:`service.web.app` includes."""
