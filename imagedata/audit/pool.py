"""Many files looked at by worker processes that may be killed by any of them, or never come back.

A decoder's fault or the out-of-memory killer ends a worker, and a hostile file may keep one busy for
ever. What it was given is then looked at file by file, and the failing file becomes a finding.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from contracts.machine import usable_cpus
from contracts.worker_process import Announce, Work
from contracts.workers import Lost, WorkerPool
from imagedata.audit.facts import FileFacts, look_at_file

PATIENCE_S = 30.0
"""Longest time that a worker may spend on one file."""

_FILES_PER_BLOCK = 64
_HEARTBEAT_S = 0.5

Window = tuple[float, float] | None


@dataclass(frozen=True)
class _Block:
    """Files for one worker.

    Attributes:
        first: position of the first one.
        paths: neighbours in the list of files.
    """

    first: int
    paths: tuple[str, ...]


def look_at_files(
    files: Sequence[str | Path],
    window: Window = None,
    processes: int | None = None,
    patience_s: float = PATIENCE_S,
    root: Path = Path(),
) -> Generator[tuple[int, FileFacts]]:
    """Look at files in spawned processes; yield position and facts of each, in no certain order.

    At most two blocks of 64 files per worker are in memory (one in work, one waiting), so memory does not
    grow with the number of files but by what the caller keeps.

    Args:
        files: paths.
        window: of 16-bit images.
        processes: workers (default: one per usable processor).
        patience_s: seconds without a sign of life after which a worker's file is given up.
        root: folder that paths are relative to; absolute ones stay as they are.

    Raises:
        ModelError: workers cannot even be started.
    """
    blocks = (
        _Block(at, tuple(str(root / file) for file in files[at : at + _FILES_PER_BLOCK]))
        for at in range(0, len(files), _FILES_PER_BLOCK)
    )
    with WorkerPool(
        partial(_block_reader, window),
        blocks,
        min(processes or usable_cpus(), -(-len(files) // _FILES_PER_BLOCK)),
        name="processes that look at files",
        advice="Give the machine more memory",
        patience_s=patience_s,
    ) as pool:
        for block, outcome in pool:
            if not isinstance(outcome, Lost):
                yield from enumerate(outcome, block.first)
            elif len(block.paths) > 1:
                pool.put_first(_Block(at, (path,)) for at, path in enumerate(block.paths, block.first))
            elif outcome.stalled:
                problem = f"kept a process busy for more than {patience_s:g} seconds."
                yield block.first, FileFacts("", 0, "stalled", problem)
            else:
                problem = f"ended the process that was reading it ({outcome.ending})."
                yield block.first, FileFacts("", 0, "crashed", problem)


def _block_reader(window: Window) -> Work[_Block, list[FileFacts]]:
    """What a worker does with each block."""

    def read(block: _Block, announce: Announce) -> list[FileFacts]:
        found = []
        last_sign = time.monotonic()
        for step, path in enumerate(block.paths):
            if time.monotonic() - last_sign > _HEARTBEAT_S:
                announce(step)
                last_sign = time.monotonic()
            try:
                found.append(look_at_file(Path(path), window))
            except Exception as error:  # no file, however strange, may end the audit of all others
                problem = f"made its reader fail ({type(error).__name__}: {error})."
                found.append(FileFacts("", 0, "crashed", problem))
        return found

    return read
