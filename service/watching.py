"""Watched folders: what appears in them is scored, and no file outside of them is ever read.

The folders are looked through every second. A file is read once it has kept its size and time for a second,
so that one that is still being written is left alone. Links are not followed.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from contracts.errors import ImageError, UsageError
from imagedata.decoding.decode import read_image_bytes
from imagedata.decoding.formats import IMAGE_SUFFIXES
from service.engine.pool import FullError
from service.limits import Limits

_log = logging.getLogger("outnumbered.service")

Take = Callable[[bytes, Path, str], None]
"""Is handed a file's bytes, its path and the folder below the watched one that it lies in."""


class Watcher:
    """Looks through folders and hands over what is new.

    Args:
        folders: existing ones.
        take: called from the watcher's thread; may raise :class:`service.engine.pool.FullError` to be asked
            again later.
        limits: files larger than ``file_bytes`` are left alone.
        every_s: pause between looks.

    Raises:
        UsageError: one of them is no folder.
    """

    def __init__(self, folders: Sequence[Path], take: Take, limits: Limits, every_s: float = 1.0) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"--watch {folder}: no such folder. Make it, or name another.")
        self._folders = [folder.resolve() for folder in folders]
        self._take, self._limits, self._every_s = take, limits, every_s
        self._seen: dict[Path, tuple[int, int]] = {}
        self._taken: dict[Path, tuple[int, int]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        if self._folders:
            self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def contains(self, path: Path) -> bool:
        """Whether a path lies in a watched folder, all links on the way resolved."""
        real = path.resolve()
        return any(real.is_relative_to(folder) for folder in self._folders)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.look()
            except Exception:  # a folder may vanish at any step; the next look is in a second
                _log.exception("watched folder")
            self._stopped.wait(self._every_s)

    def look(self) -> None:
        """Look through the folders once."""
        there: dict[Path, tuple[int, int]] = {}
        for folder in self._folders:
            for path, facts in _files(folder):
                there[path] = facts
                is_settled = self._seen.get(path) == facts and time.time_ns() - facts[1] > self._every_s * 1e9
                if not is_settled or self._taken.get(path) == facts or self._stopped.is_set():
                    continue
                try:
                    self._hand_over(path, folder)
                except FullError:
                    break
                self._taken[path] = facts
        self._seen = there
        # What has gone is forgotten, so that memory does not grow with a folder that is emptied each night.
        self._taken = {path: facts for path, facts in self._taken.items() if path in there}

    def _hand_over(self, path: Path, folder: Path) -> None:
        try:
            if not self.contains(path) or path.stat().st_size > self._limits.file_bytes:
                raise ImageError("it lies elsewhere, or is too large.")
            data = read_image_bytes(path)
        except (ImageError, OSError) as error:
            _log.warning("watched file %r was left out: %s", str(path), error)
            return
        below = path.parent.relative_to(folder)
        self._take(data, path, folder.name if below == Path() else str(below))


def _files(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Regular files with an image's ending below a folder, with size and time; links are passed over."""
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            try:
                facts = path.lstat()
            except OSError:
                continue
            if stat.S_ISREG(facts.st_mode):
                yield path, (facts.st_size, facts.st_mtime_ns)
