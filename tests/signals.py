"""Signals in processes that tests start."""

import signal


def listen_to_interrupts() -> None:
    """Called first in a started process: a shell's background jobs ignore Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
