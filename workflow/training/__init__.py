"""``train-all`` and ``train``: every member on every fold."""
