"""A training command as a process of its own, which ends itself at a chosen moment.

Usage: python killed_run.py MOMENT ARGUMENTS... with MOMENT one of ``never``, ``mid-write:N`` (killed
half-way through writing the N-th result), ``interrupt:N`` (as if Ctrl-C was pressed while the N-th fit
is fitted), ``measuring`` (killed between the files of a comparison), ``taking-in`` (an update
is killed half-way through writing what a member says of the added images).
"""

import os
import signal
import sys

import cli
from tests.signals import listen_to_interrupts
from workflow.comparing import compare
from workflow.run import feedback_scores, fits
from workflow.training import train as train_all


def die(number: int = signal.SIGKILL) -> None:
    """Receive a signal as from outside."""
    os.kill(os.getpid(), number)


def half_written(path, *_):
    """Begin to write a cached result, and end the process in the middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.{os.getpid()}.tmp").open("wb") as handle:
        handle.write(b"PK\x03\x04 half")
        handle.flush()
        die()


def sabotage(moment: str) -> None:
    """Arrange for the process to end at the moment."""
    kind, _, count = moment.partition(":")
    left = int(count or 0)
    if kind == "mid-write":
        write_arrays = fits.write_arrays

        def kill_in_the_middle(path, arrays, meta):
            nonlocal left
            left -= 1
            if left == 0:
                half_written(path)
            write_arrays(path, arrays, meta)

        fits.write_arrays = kill_in_the_middle
    elif kind == "interrupt":
        run_fit = train_all.run_fit

        def interrupt_later(*arguments, **named):
            nonlocal left
            left -= 1
            if left == 0:
                signal.signal(signal.SIGALRM, lambda *_: die(signal.SIGINT))
                signal.setitimer(signal.ITIMER_REAL, 0.02)
            return run_fit(*arguments, **named)

        train_all.run_fit = interrupt_later
    elif kind == "measuring":
        compare.write_json = lambda *_: die()
    elif kind == "taking-in":
        feedback_scores.write_arrays = half_written


if __name__ == "__main__":
    listen_to_interrupts()
    sabotage(sys.argv[1])
    sys.exit(cli.main(sys.argv[2:]))
