"""A pool of worker processes that may die or hang at any task without harming the other tasks.

Training, scoring and the audit of files share it. Each worker has a pipe of its own, one task at a time,
and shares no lock or queue, so a worker that dies cannot block another, and its task is known. What a lost
task means differs (a fit is reported, a shard is tried again, a file becomes a finding), so the pool hands
it to its user as a :class:`Lost` and goes on.

No process outlives the parent, even after ``kill -9``, and Ctrl+C is handled by the parent alone.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, Self

from contracts.errors import ModelError
from contracts.worker_process import Done, Failed, Ready, Result, Task, Work, Worker

_FAILED_STARTS_ALLOWED = 2
"""Workers in a row that may die before they are ready for a task."""

_LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Lost:
    """A worker died or hung at a task.

    Attributes:
        ending: how the process ended, such as ``signal SIGKILL`` or ``exit code 1``.
        step: the last step that it announced of this task; None where it announced none.
        stalled: it gave no sign of life for too long and was killed for that.
    """

    ending: str
    step: int | None
    stalled: bool


class WorkerPool(Generic[Task, Result]):
    """Spawned processes that do tasks; iterate over it for the outcomes, in the order they arrive.

    Use it as a context manager: leaving the block kills the workers at once. At most one task per worker is
    taken ahead from ``tasks``, so memory does not grow with their number.

    Args:
        prepare: picklable; called once in each worker, returns what does one task.
        tasks: picklable; may be a generator.
        processes: most workers at a time.
        name: what to call the workers in messages, in the plural.
        advice: what to do when workers cannot be started, as the beginning of a sentence.
        label: names a task in messages.
        patience_s: seconds without a sign of life after which a worker's task is lost.

    Yields:
        Each task with its result, or with a :class:`Lost`. A lost task is done with, unless its parts or the
        task itself are handed in again by :meth:`put_first`.

    Raises:
        OutnumberedError, OSError: as raised in a worker.
        RuntimeError: another exception in a worker, with its traceback as text.
        ModelError: workers die before they are ready, several in a row.
    """

    def __init__(
        self,
        prepare: Callable[[], Work[Task, Result]],
        tasks: Iterable[Task],
        processes: int,
        *,
        name: str,
        advice: str,
        label: Callable[[Task], str] = str,
        patience_s: float = math.inf,
    ) -> None:
        self._prepare = prepare
        self._tasks = iter(tasks)
        self._waiting: deque[Task] = deque()
        self._processes = processes
        self._name, self._advice, self._label = name, advice, label
        self._patience_s = patience_s
        self._workers: dict[Connection, Worker[Task]] = {}
        self._failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()

    def put_first(self, tasks: Iterable[Task]) -> None:
        """Hand in tasks that are done before all that wait, in this order."""
        # extendleft reverses what it is given.
        self._waiting.extendleft(reversed(list(tasks)))

    def __iter__(self) -> Iterator[tuple[Task, Result | Lost]]:
        while self._staff():
            # Without patience nothing but a message can happen, and the death of a worker is one, too.
            timeout = None if math.isinf(self._patience_s) else min(_LOOK_EVERY_S, self._patience_s)
            for pipe in wait(list(self._workers), timeout):
                yield from self._hear(self._workers[pipe])  # type: ignore[index]  # our own connections
            for worker in list(self._workers.values()):
                if worker.tasks and time.monotonic() - worker.last_sign > self._patience_s:
                    yield from self._bury(worker, stalled=True)

    def _staff(self) -> bool:
        """Give tasks to idle workers, start or dismiss workers as needed; False when all is done."""
        for worker in list(self._workers.values()):
            # Idle workers are dismissed as soon as no task waits.
            if worker.is_ready and not worker.tasks and not self._give_next(worker):
                del self._workers[worker.pipe]  # the others can use its memory
                worker.end()
        self._look_ahead()
        in_work = sum(bool(worker.tasks) for worker in self._workers.values())
        while len(self._workers) < min(self._processes, in_work + len(self._waiting)):
            started = Worker[Task](self._prepare)
            self._workers[started.pipe] = started
        return bool(in_work or self._waiting)

    def _give_next(self, worker: Worker[Task]) -> bool:
        """Give an idle worker the next task, if there is one."""
        self._look_ahead()
        if self._waiting:
            worker.give(self._waiting.popleft())
        return bool(worker.tasks)

    def _look_ahead(self) -> None:
        """Take tasks from the iterator, as many as workers could be started for."""
        self._waiting.extend(islice(self._tasks, max(0, self._processes - len(self._waiting))))

    def _hear(self, worker: Worker[Task]) -> Iterator[tuple[Task, Result]]:
        """Act on a worker's message, or on its death, which closes its pipe."""
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker, stalled=False)
            return
        worker.last_sign = time.monotonic()
        match message:
            case Ready():
                worker.is_ready, self._failed_starts = True, 0
                self._give_next(worker)
            case Failed(error, bug):
                where = self._label(worker.tasks[0]) if worker.tasks else self._name
                raise error or RuntimeError(f"{where}: a worker process failed:\n{bug}")
            case Done(result):
                task = worker.tasks.pop()
                self._give_next(worker)  # first, so that it works while the result is dealt with
                yield task, result
            case step:
                worker.step = step

    def _bury(self, worker: Worker[Task], stalled: bool) -> Iterator[tuple[Task, Any]]:
        """End a worker that is dead or hangs, and tell what it was doing."""
        # Killed before it is reported, so that a hanging worker cannot finish a task that somebody else is
        # given.
        ending = worker.end()
        del self._workers[worker.pipe]
        # A worker that dies before its first task fails for a reason that the next one will share.
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts > _FAILED_STARTS_ALLOWED:
                raise ModelError(
                    f"{self._name} end while they start ({ending}), {self._failed_starts} in a row. "
                    f"{self._advice}; in a script of your own, make the call under "
                    "if __name__ == '__main__', because workers import the script again."
                )
        for task in worker.tasks:
            yield task, Lost(ending, worker.step, stalled)
