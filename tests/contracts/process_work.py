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
