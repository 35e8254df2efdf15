"""From listed images to files that can be read: those of the user as they are, or files of our own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from contracts.files import sha256_of_file
from imagedata.inspection import Inspection
from imagedata.layouts.listed_image import ListedImage
from imagedata.manifest_row import ManifestRow


class Bar(Protocol):
    """A progress bar."""

    def advance(self) -> None:
        """Count one step as done."""


Progress = Callable[[str, int], AbstractContextManager[Bar]]
"""From what is being done, and its number of steps, to a progress bar that runs while the block does."""

LookAt = Callable[[Path, list[str], str], dict[str, Inspection]]
"""``look_at(root, paths, what)`` opens each file once; returns path → finding. ``what`` is for progress."""


class Materialiser:
    """Images that are files of the user's own: read where they lie, and nothing is written.

    Subclasses write files of our own. The order of calls is :meth:`inspect`, then :meth:`write` with the rows
    that the findings led to.

    Args:
        root: folder that the paths of the images are relative to, once they are files.
    """

    def __init__(self, root: Path) -> None:
        # Absolute, to hold from any working directory. Links stay as they are: the user knows them by name.
        self.root = Path(os.path.abspath(root))  # noqa: PTH100

    def inspect(
        self, listed: Sequence[ListedImage], look_at: LookAt, progress: Progress
    ) -> dict[str, Inspection]:
        """Path → finding of every listed image."""
        del progress
        return look_at(self.root, [image.path for image in listed], "images")

    def sources(self, rows: Sequence[ManifestRow]) -> list[tuple[str, ManifestRow]] | None:
        """Path of the user's own file behind each row, with the row as that file's inspection left it.

        Returns:
            None where images are no files of their own, but lie within larger ones.
        """
        return [(row.path, row) for row in rows]

    def write(self, rows: Sequence[ManifestRow], progress: Progress) -> Sequence[ManifestRow]:
        """Write the files of the usable rows that are not written yet.

        Returns:
            The rows, changed where their files are others than the listed ones.
        """
        del progress
        return rows


def is_whole(path: Path, sha256: str) -> bool:
    """Whether a file is there with the expected bytes."""
    return path.is_file() and sha256_of_file(path) == sha256


def write_by_rename(path: Path, data: bytes) -> None:
    """Write a file that is either whole or absent, and make its folder.

    It is not flushed to disk, which would take minutes for 20,000 files. Callers check with :func:`is_whole`
    instead, so that a file torn by a power cut is written again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def write_where_missing(path: Path, data: bytes) -> bool:
    """Write a file unless it is there with these bytes; returns whether it was written."""
    if is_whole(path, hashlib.sha256(data).hexdigest()):
        return False
    write_by_rename(path, data)
    return True


def digests_of(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of files; a file that has not changed since is read once per process."""
    facts = ((path, path.stat()) for path in paths)
    return [_digest(path.absolute(), stat.st_size, stat.st_mtime_ns) for path, stat in facts]


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, changed_ns: int) -> str:
    del size, changed_ns  # part of the cache's key: another size or time is another file
    return sha256_of_file(path)
