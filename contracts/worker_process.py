"""One worker process with a pipe of its own, which may die or hang without harming anyone.

:mod:`contracts.workers` makes pools of them for commands that end; a service keeps its own standing ones.

No process outlives the parent, even after ``kill -9``, and Ctrl+C is handled by the parent alone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from contracts.errors import OutnumberedError

Task = TypeVar("Task")
Result = TypeVar("Result")

Announce = Callable[[int], None]
"""Tells the parent which step of its task a worker is about to begin. Also counts as a sign of life."""

Work = Callable[[Task, Announce], Result]
"""Does one task within a worker."""

# What a worker says to the parent, beside the steps of its task, which are plain integers.


@dataclass(frozen=True)
class Ready:
    """The worker waits for its first task."""


@dataclass(frozen=True)
class Done:
    """The task is finished."""

    result: Any


@dataclass(frozen=True)
class Failed:
    """An error that is the user's, or else ``bug``, a traceback as text."""

    error: OutnumberedError | OSError | None
    bug: str = ""


class Worker(Generic[Task]):
    """The parent's side of one worker.

    Its pipe gives a :class:`Ready`, then for each task integers (its steps) and a :class:`Done` or a
    :class:`Failed`; at the death of the process it closes.

    Args:
        prepare: picklable; called once in the process, returns what does one task.
    """

    def __init__(self, prepare: Callable[[], Work[Task, Any]]) -> None:
        # spawn, not fork: a forked copy of a process with threads (BLAS, torch) may hang at the first lock.
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(prepare, far_end), daemon=True)
        with _interrupts_held_back():
            self._process.start()
        far_end.close()  # the worker's copy is now the only one, so its death closes the pipe
        self.is_ready = False
        self.tasks: list[Task] = []  # at most one; a task may be None
        self.step: int | None = None
        self.last_sign = time.monotonic()

    def give(self, task: Task) -> None:
        """Send the next task."""
        self.tasks, self.step, self.last_sign = [task], None, time.monotonic()
        with suppress(OSError):  # the worker is dead, which reading from its pipe will show
            self.pipe.send(task)

    def end(self) -> str:
        """Kill the process if it still runs; return how it ended, in words."""
        self.pipe.close()
        # kill, not terminate: a worker that is stuck in native code ignores SIGTERM.
        self._process.kill()
        self._process.join()
        code = self._process.exitcode or 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start a child that never sees Ctrl+C: it inherits the mask, and prints no traceback of its own."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- within a worker


def _serve(prepare: Callable[[], Work[Any, Any]], parent: Connection) -> None:
    """Do tasks until the parent closes the pipe or dies."""
    # Ctrl+C reaches the whole group of processes; what it means is for the parent to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # closed, also with something unread in it
        prepared = _attempt(prepare)
        if isinstance(prepared, Failed):
            parent.send(prepared)
            return
        parent.send(Ready())
        while True:
            parent.send(_attempt(prepared.result, parent.recv(), parent.send))


def _attempt(call: Callable[..., Any], *arguments: Any) -> Done | Failed:
    """Call; what a user can act on stays an exception, anything else becomes text, which always travels."""
    try:
        return Done(call(*arguments))
    except (OutnumberedError, OSError) as error:
        return Failed(error)
    except Exception:
        return Failed(None, traceback.format_exc())


def _end_with_parent() -> None:
    """End this process as soon as the parent is gone, even by SIGKILL, even in the middle of its work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # Not sys.exit: this thread must end the whole process, whatever the main thread is doing.
        os._exit(1)
