"""The files that a user's list means, with paths as Kaggle, spreadsheets and Windows write them."""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import cached_property
from pathlib import Path

from imagedata.layouts.walk import image_files

_DRIVE = re.compile(r"[A-Za-z]:/|//")


class ListedFiles:
    """Finds files below one folder; remembers what it had to add to the paths.

    Args:
        base: absolute folder that paths are relative to.

    Attributes:
        endings: ending → number of paths that it was added to.
        moved: number of paths whose folder was another one, or missing.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.endings: Counter[str] = Counter()
        self.moved = 0

    def find(self, written: str) -> list[Path]:
        """The files that a path means: one as a rule; none, or several of equal right.

        In this order: the path as it is; with slashes for backslashes; of a path with a drive, the longest
        end that is a file below the folder; every image below the folder whose name is the path's, or is
        without its ending.
        """
        direct = self._file(written)
        if direct is not None:
            return [direct]
        slashed = written.replace("\\", "/")
        parts = [part for part in slashed.split("/") if part not in {"", "."}]
        if not parts or ".." in parts or (slashed.startswith("/") and not _DRIVE.match(slashed)):
            return [] if (found := self._file(slashed)) is None else [found]
        if _DRIVE.match(slashed):
            ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
            return next(([path] for end in ends if (path := self._file(end)) is not None), [])
        found = self._file(slashed) if slashed != written else None
        return [found] if found is not None else self._by_name(parts)

    def _file(self, below: str) -> Path | None:
        # Strings, as most lists without endings get here once per row in vain; a name too long is no error.
        path = os.path.normpath(os.path.join(self.base, below))  # noqa: PTH118
        return Path(path) if os.path.isfile(path) else None  # noqa: PTH113

    def _by_name(self, parts: list[str]) -> list[Path]:
        """Images below the folder by name or stem, in folders that end like those of the path."""
        *folders, name = parts
        fitting = [
            (path, parents)
            for path, parents in self._images.get(name, [])
            if not folders or parents[-len(folders) :] == folders
        ]
        # A whole name is surer than one that lacks its ending.
        found = [each for each in fitting if each[0].name == name] or fitting
        if len(found) == 1:
            path, parents = found[0]
            self.endings.update([path.suffix] if path.name != name else [])
            self.moved += parents != folders
        return [path for path, _ in found]

    @cached_property
    def _images(self) -> dict[str, list[tuple[Path, list[str]]]]:
        """Name, and name without the ending of images → files, each with the folders that it lies in."""
        found: dict[str, list[tuple[Path, list[str]]]] = {}
        for path in image_files(self.base):
            entry = path, list(path.relative_to(self.base).parts[:-1])
            for name in (path.name, path.stem):  # every file of the walk has an ending
                found.setdefault(name, []).append(entry)
        return found
