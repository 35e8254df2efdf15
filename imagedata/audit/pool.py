"""Many files looked at by worker processes that may be killed by any of them, or never come back.

A decoder's fault or the out-of-memory killer ends a worker, and a hostile file may keep one busy for
ever. What it was given is then looked at file by file, and the guilty file becomes a finding.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from contracts.errors import ModelError
from contracts.machine import usable_cpus
from contracts.processes import end_process, interrupts_held_back, leave_interrupts_to_parent
from imagedata.audit.facts import FileFacts, look_at_file

PATIENCE_S = 30.0
"""Longest time that a worker may spend on one file."""

_FILES_PER_BLOCK = 64
_HEARTBEAT_S = 0.5
_FAILED_STARTS_ALLOWED = 2

Window = tuple[float, float] | None


def look_at_files(
    files: Sequence[str | Path],
    window: Window = None,
    processes: int | None = None,
    patience_s: float = PATIENCE_S,
    root: Path = Path(),
) -> Generator[tuple[int, FileFacts]]:
    """Look at files in spawned processes; yield position and facts of each, in no certain order.

    At most one block of 64 files is on its way to or from each worker, so memory does not grow with the
    number of files but by what the caller keeps.

    Args:
        files: paths.
        window: of 16-bit images.
        processes: workers; as many as there are processors by default.
        patience_s: seconds without a sign of life after which a worker's file is given up.
        root: folder that paths are relative to; absolute ones stay as they are.

    Raises:
        ModelError: workers cannot even be started.
    """
    count = min(processes or usable_cpus(), -(-len(files) // _FILES_PER_BLOCK))
    pool = _Pool(files, root, window, count, patience_s)
    try:
        while not pool.is_finished:
            yield from pool.step()
    finally:
        pool.close()


class _Worker:
    """The parent's side of one worker."""

    def __init__(self, window: Window) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=_WORK, args=(window, far_end), daemon=True)
        with interrupts_held_back():
            self.process.start()
        far_end.close()  # the worker's copy is now the only one, so its death closes the pipe
        self.is_ready = False
        self.block: Sequence[int] = ()
        self.last_sign = time.monotonic()

    def end(self) -> str:
        """End the process if it still runs; return how it ended, in words."""
        self.pipe.close()
        return end_process(self.process)


class _Pool:
    """Workers and the blocks that wait for them."""

    def __init__(
        self, files: Sequence[str | Path], root: Path, window: Window, count: int, patience_s: float
    ) -> None:
        self._files, self._root = files, root
        self._window, self._count, self._patience_s = window, count, patience_s
        blocks = range(0, len(files), _FILES_PER_BLOCK)
        self._waiting: deque[Sequence[int]] = deque(
            range(at, min(at + _FILES_PER_BLOCK, len(files))) for at in blocks
        )
        self._workers: dict[Connection, _Worker] = {}
        self._failed_starts = 0

    @property
    def is_finished(self) -> bool:
        """True when no block waits and none is in work."""
        return not self._waiting and not any(worker.block for worker in self._workers.values())

    def step(self) -> Generator[tuple[int, FileFacts]]:
        """Start what is wanted, wait for news or for patience to end, act on it."""
        for worker in self._workers.values():
            # Files of a dead worker's block may have come back after this one ran out of work.
            if worker.is_ready and not worker.block:
                self._give_next(worker)
        in_work = sum(bool(worker.block) for worker in self._workers.values())
        while len(self._workers) < min(self._count, in_work + len(self._waiting)):
            worker = _Worker(self._window)
            self._workers[worker.pipe] = worker
        for ready in wait(list(self._workers), timeout=min(1.0, self._patience_s)):
            worker = self._workers[ready]  # type: ignore[index]  # only our connections were waited for
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._bury(worker, "crashed", "ended the process that was reading it")
                continue
            worker.last_sign = time.monotonic()
            if message is None:  # a sign of life, the first of which says that the worker has started
                worker.is_ready, self._failed_starts = True, 0
            else:
                yield from zip(worker.block, message, strict=True)
                worker.block = ()
            if not worker.block:
                self._give_next(worker)
        for worker in list(self._workers.values()):
            if worker.block and time.monotonic() - worker.last_sign > self._patience_s:
                reason = f"kept a process busy for more than {self._patience_s:g} seconds"
                yield from self._bury(worker, "stalled", reason)

    def close(self) -> None:
        """End every worker at once."""
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()

    def _give_next(self, worker: _Worker) -> None:
        if not self._waiting:
            return
        worker.block = self._waiting.popleft()
        worker.last_sign = time.monotonic()
        with suppress(OSError):  # dead, which reading from it will show
            worker.pipe.send([str(self._root / self._files[position]) for position in worker.block])

    def _bury(self, worker: _Worker, rule: str, reason: str) -> Generator[tuple[int, FileFacts]]:
        """Take a worker's block back: file by file again, or the file is the guilty one."""
        ending = worker.end()
        del self._workers[worker.pipe]
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts > _FAILED_STARTS_ALLOWED:
                raise ModelError(
                    f"processes that look at files end while they start ({ending}), {self._failed_starts} in "
                    "a row. Give the machine more memory; in a script of your own, start the check below "
                    "if __name__ == '__main__', because workers import the script again."
                )
        if len(worker.block) == 1:
            problem = f"{reason} ({ending})." if rule == "crashed" else f"{reason}."
            yield worker.block[0], FileFacts("", 0, rule, problem)
        else:
            self._waiting.extendleft((position,) for position in reversed(worker.block))


def _serve_files(window: Window, parent: Connection) -> None:
    """Look at blocks of files until the parent closes the pipe or dies."""
    leave_interrupts_to_parent()
    try:
        parent.send(None)
        while True:
            paths = parent.recv()
            found = []
            last_sign = time.monotonic()
            for path in paths:
                if time.monotonic() - last_sign > _HEARTBEAT_S:
                    parent.send(None)
                    last_sign = time.monotonic()
                found.append(look_at_file(Path(path), window))
            parent.send(found)
    except (EOFError, ConnectionError):  # closed, also with something unread in it
        return


_WORK = _serve_files
