"""Signals in child processes of tests."""

import signal


def listen_to_interrupts() -> None:
    """For ``preexec_fn``: a shell's background jobs ignore Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
