"""What a folder or file of the user's own is: each layout is asked in turn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contracts.errors import DataError, UsageError
from imagedata.containers.archive import is_archive_name
from imagedata.layouts.layout import Recognised
from imagedata.layouts.registry import LAYOUTS
from imagedata.layouts.splits import split_folders
from imagedata.layouts.walk import subfolders

_OBVIOUS_RATIO = 2.0
"""A class is obviously the minority when every other class has at least this many times its images."""


def document_of(place: Path, minority: str | None, stated: Mapping[str, Any]) -> dict[str, Any] | None:
    """Keys of a spec for a folder or a file.

    Args:
        place: class folders, MVTec's tree, a folder of shards, a list of images, or what else a layout knows.
        minority: the minority class as the user names it; needed where it is not obvious.
        stated: keys of the layout that the user states.

    Returns:
        None for a file that no layout knows.

    Raises:
        DataError: a folder that no layout knows, or something damaged.
        UsageError: the minority is not obvious.
    """
    found = next(filter(None, (layout.recognise(place, stated) for layout in LAYOUTS)), None)
    if found is None:
        if place.is_dir():
            raise _no_classes(place)
        if is_archive_name(place.name):
            raise DataError(
                f"{place}: an archive, which score reads, but training does not. Unpack it and name the "
                "folder that holds the class folders."
            )
        return None
    name = place.resolve().name if place.is_dir() else place.stem
    common = {"name": identifier(name), "title": f"images of {name}"}
    return {**common, **document_of_recognised(found, str(place), minority)}


def document_of_recognised(found: Recognised, where: str, minority: str | None) -> dict[str, Any]:
    """Layout, classes and minority of something recognised.

    Args:
        found: what a layout made of it.
        where: what to name in messages.
        minority: as the user names it.

    Raises:
        UsageError: the minority is not obvious.
    """
    minority = found.minority or minority or _obvious_minority(where, found.count())
    return {"layout": found.layout, "classes": found.classes, "minority": minority}


def identifier(name: str) -> str:
    """A folder's name as the name of a data set: letters, digits and ``._-`` only."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-") or "images"


def _no_classes(folder: Path) -> DataError:
    train = split_folders(folder).train
    classes = subfolders(folder / train if train else folder)
    packed = sorted(path.name for path in folder.iterdir() if is_archive_name(path.name))
    unpack = (
        f"Unpack {packed[0]} and name the folder that holds its class folders, or lay" if packed else "Lay"
    )
    return DataError(
        f"{folder}: at least two class folders are needed, got {', '.join(classes) or 'none'}. "
        f"{unpack} images out as <class>/*.jpg, or as train/<class>/*.jpg and test/<class>/*.jpg."
    )


def _obvious_minority(where: str, counts: dict[str, int]) -> str:
    smallest = min(counts, key=lambda name: counts[name])
    others = [count for name, count in counts.items() if name != smallest]
    if min(others) < _OBVIOUS_RATIO * max(counts[smallest], 1):
        facts = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageError(
            f"{where}: which class is the minority is not obvious ({facts}). Name it with --minority NAME."
        )
    return smallest
