"""What listing a data set gives: files with their labels, and the walk that finds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from contracts.errors import DataError
from imagedata.decoding.decode import IMAGE_SUFFIXES

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One file of a data set, not opened yet.

    Attributes:
        path: relative to the set's root, with forward slashes.
        label: class name.
        split: ``train`` (the pool that folds and test rows are drawn from) or ``test`` (held out by
            the data set itself).
        group: patient or lot where the data set itself names it; None leaves it to the spec's rule.
        subtype: a finer name than the class where the data set has one, such as the kind of a defect.
        mask: path, relative to the set's root, of the picture that shows where the anomaly is; None where
            there is none.
    """

    path: str
    label: str
    split: Split
    group: str | None = None
    subtype: str | None = None
    mask: str | None = None


def image_files(folder: Path) -> Iterator[Path]:
    """Yield files below ``folder`` that are named like images, sorted; hidden ones are left out.

    Links to folders are not followed, so that a loop of links cannot trap the walk.

    Raises:
        DataError: a folder cannot be read, or a name is not text; either would silently cost images.
    """

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise DataError(
                f"{error.filename}: cannot be read: {error.strerror}. Make it readable."
            ) from error

    for current, folders, files in os.walk(folder, onerror=unreadable, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                path = Path(current) / name
                try:
                    str(path).encode()
                except UnicodeEncodeError:
                    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
                    raise DataError(f"{shown}: its name is not UTF-8. Rename it (convmv can).") from None
                yield path


def matching_paths(root: Path, pattern: str) -> Iterator[Path]:
    """Existing paths below ``root`` that a pattern stands for, sorted; without ``*`` it is one path."""
    head, _, rest = pattern.partition("/")
    if "*" not in pattern:
        if (root / pattern).exists():
            yield root / pattern
        return
    if "*" not in head:
        found = [root / head] if (root / head).exists() else []
    else:
        try:
            children = list(root.iterdir())
        except OSError:
            return
        found = sorted(
            path for path in children if fnmatchcase(path.name, head) and not path.name.startswith(".")
        )
    for path in found:
        if not rest:
            yield path
        elif path.is_dir():
            yield from matching_paths(path, rest)
