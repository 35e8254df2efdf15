"""Signals in processes that tests start."""

import signal


def listen_to_interrupts() -> None:
    """Called first in a started process: what a shell runs in the background ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
