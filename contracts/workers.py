"""Tasks in several processes, for work that keeps its own results: one process, one task, one pipe each.

No lock or queue is shared, so a worker that dies can hurt nobody else, and it is known what it was
doing. Nothing is tried again here: a finished task is on disk, and the same command goes on from there.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from contracts.errors import ModelError, OutnumberedError
from contracts.processes import end_process, interrupts_held_back, leave_interrupts_to_parent

Task = TypeVar("Task")


@dataclass(frozen=True)
class _Done:
    """The task is finished."""


@dataclass(frozen=True)
class _Failure:
    """The task cannot be done: an error for the user, or ``unexpected`` with a traceback as its text."""

    error: Exception | None
    unexpected: str = ""


def work_in_processes(
    work: Callable[[Task], None], tasks: Sequence[Task], processes: int, label: Callable[[Task], str]
) -> Generator[Task]:
    """Do tasks in spawned processes; yield each as it is done, in no certain order.

    Close the generator (or let an exception pass through it) to end the workers at once.

    Args:
        work: picklable; called in a worker, once a task. It keeps what it makes.
        tasks: picklable.
        processes: most workers at a time.
        label: names a task in messages.

    Raises:
        OutnumberedError, OSError: as raised by ``work``.
        ModelError: a worker died; names its task.
    """
    waiting = deque(tasks)
    workers: dict[Connection, tuple[Any, Task]] = {}
    context = multiprocessing.get_context("spawn")
    try:
        while waiting or workers:
            while waiting and len(workers) < processes:
                pipe, far_end = context.Pipe()
                process = context.Process(target=_serve, args=(work, far_end), daemon=True)
                with interrupts_held_back():
                    process.start()
                far_end.close()  # the worker's copy is now the only one, so its death closes the pipe
                workers[pipe] = (process, _send(pipe, waiting.popleft()))
            for ready in wait(list(workers)):
                pipe = ready  # type: ignore[assignment]  # only our connections were waited for
                process, task = workers[pipe]
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    raise ModelError(
                        f"{label(task)}: the process that worked on it ended by {end_process(process)}. Use "
                        "fewer --jobs, or give the machine more memory; what is finished is kept, and the "
                        "same command goes on."
                    ) from None
                if isinstance(message, _Failure):
                    raise message.error or RuntimeError(
                        f"{label(task)}: a worker process failed:\n{message.unexpected}"
                    )
                if waiting:
                    workers[pipe] = (process, _send(pipe, waiting.popleft()))
                else:
                    del workers[pipe]
                    pipe.close()  # ends the worker
                    process.join()
                yield task
    finally:
        for process, _ in workers.values():
            end_process(process)


def _send(pipe: Connection, task: Task) -> Task:
    with suppress(OSError):  # the worker is dead, which reading from it will show
        pipe.send(task)
    return task


def _serve(work: Callable[[Any], None], parent: Connection) -> None:
    """Do tasks until the parent closes the pipe or dies."""
    leave_interrupts_to_parent()
    try:
        while True:
            task = parent.recv()
            try:
                work(task)
            except (OutnumberedError, OSError) as error:
                parent.send(_Failure(error))
            except Exception:
                parent.send(_Failure(None, traceback.format_exc()))
            else:
                parent.send(_Done())
    except (EOFError, ConnectionError):  # closed, also with something unread in it
        return
