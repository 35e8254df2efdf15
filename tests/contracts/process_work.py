"""Work that tests give to worker processes; imports little, as every worker imports it."""

import errno
import os
import signal
import time
from pathlib import Path

from contracts.errors import DataError


def touch(task: str) -> None:
    """Leave a file that says which process was here."""
    Path(task).write_text(str(os.getpid()))


def meet(task: str) -> None:
    """Leave such a file, and wait until another process has left one in the same folder."""
    touch(task)
    deadline = time.monotonic() + 60
    while all(file.read_text() in {"", str(os.getpid())} for file in Path(task).parent.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def fail(task: str) -> None:
    """Fail in the way that the task's name says."""
    match Path(task).name:
        case "user":
            raise DataError("covid: too few. Add some.")
        case "disk":
            raise OSError(errno.ENOSPC, "No space left on device", task)
        case "bug":
            raise ZeroDivisionError("a bug")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "slow":
            touch(task)
            time.sleep(60)


def prepare():
    """What a worker of a pool does with a task, named by its first word."""

    def work(task: str, announce) -> str:
        match task.split(maxsplit=1)[0]:
            case "die":
                announce(7)
                os.kill(os.getpid(), signal.SIGKILL)
            case "stall":
                time.sleep(60)
            case "slow":
                for step in range(4):
                    time.sleep(0.5)
                    announce(step)
            case "refuse":
                raise DataError("covid: too few. Add some.")
            case "bug":
                raise EOFError("a bug")
            case "own":
                return str(os.getpid())
        return task.upper()

    return work


def prepare_nothing():
    """A worker that cannot be prepared, for a reason that is the user's."""
    raise DataError("no such model")


def prepare_death():
    """A worker that dies as it is prepared."""
    os._exit(9)
