"""The walk through folders that finds image files, and patterns that stand for paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from contracts.errors import DataError
from imagedata.decoding.decode import IMAGE_SUFFIXES

_TRAIN_NAMES = ("train", "training", "Train", "Training")
_TEST_NAMES = (
    "test",
    "testing",
    "val",
    "valid",
    "validation",
    "Test",
    "Testing",
    "Val",
    "Valid",
    "Validation",
)


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


def subfolders(folder: Path) -> list[str]:
    """Names of the direct subfolders, sorted; hidden ones are left out.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        names = [child.name for child in folder.iterdir() if child.is_dir()]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}. Make it readable.") from error
    return sorted(name for name in names if not name.startswith("."))


def split_folders(folder: Path) -> tuple[str | None, str | None]:
    """Names of the subfolders with the training and with the test images; None where there is none."""
    names = subfolders(folder)
    train, test = (
        next((name for name in accepted if name in names), None) for accepted in (_TRAIN_NAMES, _TEST_NAMES)
    )
    return train, test
