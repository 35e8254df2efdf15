"""Fits in several processes of this machine.

Nothing is tried again here: a finished fit is on disk, and the same command goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TypeVar

from contracts.errors import ModelError
from contracts.worker_process import Work
from contracts.workers import Lost, WorkerPool

Task = TypeVar("Task")


def work_in_processes(
    work: Callable[[Task], None], tasks: Sequence[Task], processes: int, label: Callable[[Task], str]
) -> Generator[Task]:
    """Do tasks in spawned processes; yield each as it is done, in no certain order.

    Close the generator (or let an exception pass through it) to end the workers at once.

    Args:
        work: picklable; called in a worker, once per task. It keeps what it makes.
        tasks: picklable.
        processes: most workers at a time.
        label: names a task in messages.

    Raises:
        OutnumberedError, OSError: as raised by ``work``.
        ModelError: a worker died; names its task.
    """
    with WorkerPool(
        partial(_alone, work),
        tasks,
        processes,
        name="training processes",
        advice="Use fewer --jobs, or give the machine more memory",
        label=label,
    ) as pool:
        for task, outcome in pool:
            # Not tried again: a fit that ran out of memory would do so once more, after minutes.
            if isinstance(outcome, Lost):
                raise ModelError(
                    f"{label(task)}: the process that worked on it ended by {outcome.ending}. Use "
                    "fewer --jobs, or give the machine more memory; what is finished is kept, and the "
                    "same command goes on."
                )
            yield task


def _alone(work: Callable[[Task], None]) -> Work[Task, None]:
    """The work as the pool calls it; a fit announces no steps."""
    return lambda task, _announce: work(task)
