"""``export``, ``inspect`` and ``parity``: further files of a finished run."""
