"""Worker processes that score shards, and what happens when one of them dies.

Several single-threaded processes that decode and score by themselves beat every arrangement with
queues between decoders and a shared session. Workers may die at any image (a decoder's fault, the
out-of-memory killer): the shard is tried once more, then image by image until the guilty one is known
and recorded as failed, and the batch goes on.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from contracts.errors import ModelError
from contracts.processes import end_process, interrupts_held_back
from export.scoring.plan import Shard
from export.scoring.pools.worker import AtImage, Failure, Ready, Task, run_worker
from export.scoring.shard import ShardJob, ShardResult

_FAILED_STARTS_ALLOWED = 2
"""Workers in a row that may die before they have loaded the model."""

_GUILTY_IMAGES_ALLOWED = 16
"""Images of one shard that may end a worker; beyond it the machine is at fault, not the images."""


def score_in_processes(job: ShardJob, shards: Sequence[Shard], processes: int) -> Generator[ShardResult]:
    """Score shards in worker processes; yield a cached result as each part file is in place.

    Close the generator (or let an exception pass through it) to end the workers at once.

    Args:
        job: model, output folder, settings.
        shards: what is to be scored.
        processes: most workers at a time.

    Raises:
        ModelError: the model fails, or workers keep dying whatever they are given.
        DataError: results cannot be written.
    """
    pool = _Pool(job, shards, processes)
    try:
        while not pool.finished:
            yield from pool.step()
    finally:
        pool.close()


class _Worker:
    """The driver's side of one worker process."""

    def __init__(self, job: ShardJob) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process: SpawnProcess = context.Process(target=run_worker, args=(job, far_end), daemon=True)
        with interrupts_held_back():
            self.process.start()
        far_end.close()  # the worker's copy is now the only one, so its death closes the pipe
        self.ready = False
        self.task: Task | None = None
        self.at_image: int | None = None

    def end(self) -> str:
        """End the process if it still runs; return how it ended, in words."""
        self.pipe.close()
        return end_process(self.process)


class _Pool:
    """Workers, the tasks that wait, and what is known of shards that end workers."""

    def __init__(self, job: ShardJob, shards: Sequence[Shard], processes: int) -> None:
        self._job = job
        self._processes = processes
        self._waiting = deque(Task(shard) for shard in shards)
        self._workers: dict[Connection, _Worker] = {}
        self._deaths: Counter[str] = Counter()
        self._failed_starts = 0

    @property
    def finished(self) -> bool:
        """True when no task waits and none is in work."""
        return not self._waiting and all(worker.task is None for worker in self._workers.values())

    def step(self) -> Iterator[ShardResult]:
        """Start workers that are wanted, wait for news, act on it."""
        in_work = sum(worker.task is not None for worker in self._workers.values())
        wanted = min(self._processes, in_work + len(self._waiting))
        while len(self._workers) < wanted:
            worker = _Worker(self._job)
            self._workers[worker.pipe] = worker
        for pipe in wait(list(self._workers)):
            worker = self._workers[pipe]  # type: ignore[index]  # only our connections were waited for
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            if isinstance(message, AtImage):
                worker.at_image = message.position
                continue
            if isinstance(message, Failure):
                raise message.error or RuntimeError(f"a scoring process failed:\n{message.unexpected}")
            if isinstance(message, Ready):
                worker.ready, self._failed_starts = True, 0
            worker.task = None
            self._give_next_task(worker)
            if isinstance(message, ShardResult):
                yield message

    def close(self) -> None:
        """End every worker at once; a shard in work is scored again by the next run."""
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()

    def _give_next_task(self, worker: _Worker) -> None:
        """Send the next waiting task to an idle worker."""
        if not self._waiting:
            return
        worker.task, worker.at_image = self._waiting.popleft(), None
        try:
            worker.pipe.send(worker.task)
        except OSError:
            self._bury(worker)

    def _bury(self, worker: _Worker) -> None:
        """Take a dead worker's task back and decide how it is tried again."""
        ending = worker.end()
        del self._workers[worker.pipe]
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts > _FAILED_STARTS_ALLOWED:
                raise ModelError(
                    f"scoring processes end while they start ({ending}), {self._failed_starts} in a row. "
                    "Use --processes 1, or give the machine more memory; in a script of your own, call the "
                    "scorer below if __name__ == '__main__', because workers import the script again."
                )
        if worker.task is not None:
            self._waiting.appendleft(self._next_try(worker.task, worker.at_image, ending))

    def _next_try(self, task: Task, at_image: int | None, ending: str) -> Task:
        """How to go on with a shard whose worker died: once more as it was, then image by image."""
        self._deaths[task.shard.id] += 1
        if not task.careful:
            return replace(task, careful=self._deaths[task.shard.id] > 1)
        if at_image is None:  # died outside any image; nothing to blame yet
            if self._deaths[task.shard.id] > _GUILTY_IMAGES_ALLOWED:
                raise self._gives_up(task, ending)
            return task
        reason = f"ended the process that was reading or scoring it ({ending})."
        given_up = {**task.given_up, at_image: reason}
        if len(given_up) > _GUILTY_IMAGES_ALLOWED:
            raise self._gives_up(task, ending)
        return replace(task, given_up=given_up)

    def _gives_up(self, task: Task, ending: str) -> ModelError:
        """The error for a shard that ends every worker."""
        return ModelError(
            f"shard {task.shard.id} (first image {task.shard.paths[0]!r}) ended "
            f"{self._deaths[task.shard.id]} processes, last by {ending}. Use fewer --processes, "
            "or give the machine more memory; finished shards are kept."
        )
