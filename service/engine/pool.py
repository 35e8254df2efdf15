"""Standing worker processes behind one queue; batches form by themselves while the workers are busy.

Each worker has a thread that takes what waits: pictures for the page first, then images to score, as many at
once as a batch holds. Nobody waits for a batch to fill up. A worker that dies or takes too long is replaced,
and its images are tried again one by one, so that one hostile file costs itself and nothing else.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from contracts.errors import ModelError, OutnumberedError
from contracts.worker_process import Done, Failed, Ready, Worker
from service.engine.drawing import Drawing
from service.engine.work import DrawTask, Judged, ScoreTask, Task, worker
from service.limits import Limits

_START_S = 120.0  # to load a model on a slow machine
_LOOK_S = 0.5
_FIRST, _THEN = 0, 1


class FullError(Exception):
    """Too much waits already; whoever asked may come again in a moment."""


@dataclass(order=True)
class _Job:
    """One image that waits; ordered by urgency, then by arrival."""

    urgency: int
    number: int
    task: Task = field(compare=False)
    future: Future[Any] = field(compare=False, default_factory=Future)


class Pool:
    """Workers with one model.

    Args:
        model: the exported file.
        limits: of batches, time and waiting images.
        processes: workers.
        prepare: picklable; loads the model in a worker. The default is the real one; tests have others.
    """

    def __init__(
        self,
        model: Path,
        limits: Limits,
        processes: int,
        prepare: Callable[[Path, Limits], Any] = worker,
    ) -> None:
        self._limits = limits
        self._prepare = partial(prepare, model, limits)
        self._waiting: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        self._number = itertools.count()
        self._closed = threading.Event()
        self._failure: OutnumberedError | None = None
        self.replaced = 0
        """Workers that died or hung and were replaced."""
        self._ready = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(processes)]

    def start(self) -> None:
        """Load the model in all workers, and return when one is ready.

        Raises:
            OutnumberedError: the model cannot be used, in the words of whoever found out.
        """
        for thread in self._threads:
            thread.start()
        if not self._ready.acquire(timeout=_START_S) or self._failure:
            self.close()
            raise self._failure or ModelError(
                "no worker process became ready in two minutes. Free the machine."
            )

    def close(self) -> None:
        """End the workers; what waits is refused."""
        self._closed.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5.0)
        while True:
            try:
                self._waiting.get_nowait().future.cancel()
            except queue.Empty:
                return

    @property
    def waiting(self) -> int:
        """Images that no worker has taken yet."""
        return self._waiting.qsize()

    def score(self, images: list[bytes]) -> list[Future[Judged]]:
        """Have images scored.

        Raises:
            FullError: they would be more than may wait.
        """
        if self.waiting + len(images) > self._limits.waiting_images:
            raise FullError
        return [self._put(_THEN, ScoreTask((image,))) for image in images]

    def draw(self, task: DrawTask) -> Future[Drawing]:
        """Have a picture drawn, before anything is scored: somebody looks at the page.

        Raises:
            FullError: too much waits.
        """
        if self.waiting >= self._limits.waiting_images:
            raise FullError
        return self._put(_FIRST, task)

    def _put(self, urgency: int, task: Task) -> Future[Any]:
        job = _Job(urgency, next(self._number), task)
        self._waiting.put(job)
        return job.future

    # ---- one thread per worker

    def _run(self) -> None:
        process: Worker[Task] | None = None
        while not self._closed.is_set():
            if process is None:
                process = self._started()
                continue
            jobs = self._next_jobs()
            if jobs:
                process = self._do(process, jobs)
        if process is not None:
            process.end()

    def _started(self) -> Worker[Task] | None:
        """A worker with the model loaded; None where it failed, after a pause."""
        process: Worker[Task] = Worker(self._prepare)
        message, ending = self._hear(process, _START_S)
        if isinstance(message, Ready):
            self._ready.release()
            return process
        if isinstance(message, Failed):
            ending = message.bug.strip().splitlines()[-1] if message.bug else str(message.error)
            process.end()
        error = message.error if isinstance(message, Failed) else None
        self._failure = (
            error
            if isinstance(error, OutnumberedError)
            else ModelError(
                f"a worker process ended while it started ({ending}). Give the machine more memory."
            )
        )
        self._ready.release()
        self._closed.wait(1.0)
        return None

    def _next_jobs(self) -> list[_Job]:
        """What a worker does next: one picture, or as many images as a batch holds and wait now."""
        try:
            jobs = [self._waiting.get(timeout=_LOOK_S)]
        except queue.Empty:
            return []
        while isinstance(jobs[-1].task, ScoreTask) and len(jobs) < self._limits.batch:
            try:
                following = self._waiting.get_nowait()
            except queue.Empty:
                break
            if not isinstance(following.task, ScoreTask):
                self._waiting.put(following)
                break
            jobs.append(following)
        return [job for job in jobs if job.future.set_running_or_notify_cancel()]

    def _do(self, process: Worker[Task], jobs: list[_Job]) -> Worker[Task] | None:
        """Have jobs done; the worker to go on with."""
        first = jobs[0].task
        task = first
        if isinstance(first, ScoreTask):
            images = [job.task.images[0] for job in jobs if isinstance(job.task, ScoreTask)]
            task = ScoreTask(tuple(images))
        process.give(task)
        message, ending = self._hear(process, self._limits.image_seconds)
        if isinstance(message, Done):
            results = message.result if isinstance(first, ScoreTask) else [message.result]
            for job, result in zip(jobs, results, strict=True):
                job.future.set_result(result)
            return process
        if isinstance(message, Failed):
            error = message.error or ModelError(f"a worker process failed: {message.bug}")
            for job in jobs:
                job.future.set_exception(error)
            return process
        self.replaced += 1
        if len(jobs) == 1:
            self._give_up(jobs[0], ending)
            return None
        fresh: Worker[Task] | None = None
        for job in jobs:
            while fresh is None and not self._closed.is_set():
                fresh = self._started()
            if fresh is None:
                job.future.set_exception(ModelError("the service stops. Send the image again."))
            else:
                fresh = self._do(fresh, [job])
        return fresh

    def _give_up(self, job: _Job, ending: str) -> None:
        """Answer about an image that its worker did not survive."""
        reason = f"ended the process that was reading or scoring it ({ending})."
        if isinstance(job.task, ScoreTask):
            job.future.set_result(Judged(error=reason))
        else:
            job.future.set_exception(ModelError(f"the image {reason}"))

    def _hear(self, process: Worker[Task], patience_s: float) -> tuple[Any, str]:
        """A worker's next message, or None and how it ended, where it died or took too long."""
        end = time.monotonic() + patience_s
        try:
            while not process.pipe.poll(_LOOK_S):
                if time.monotonic() > end:
                    process.end()
                    return None, f"no answer in {patience_s:g} s"
                if self._closed.is_set():
                    process.end()
                    return None, "the service stops"
            return process.pipe.recv(), ""
        except (EOFError, OSError):
            return None, process.end()
