"""What a folder or file of the user's own is: each layout is asked in turn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contracts.errors import DataError, UsageError
from imagedata.containers.archive import is_archive_name
from imagedata.file_names import of_other_endings
from imagedata.layouts.image_folder import ImageFolder
from imagedata.layouts.layout import Recognised
from imagedata.layouts.registry import LAYOUTS
from imagedata.layouts.said import Said, is_named_like_a_minority, spelt
from imagedata.layouts.splits import split_folders
from imagedata.layouts.walk import images_of_other_endings, subfolders

_OBVIOUS_RATIO = 2.0
"""A class is obviously the minority when every other class has at least this many times its images."""

_ANOMALOUS = "anomalous"
"""Name of the minority where the user gives none."""

_NORMAL_NAMES = ("good", "ok", "normal", "healthy", "pass")
"""Names, lower case, of classes that are hardly the minority, however few their images are."""

_FOLDERS = ("class_folders", "anomaly_folders", "image_folder")
"""Layouts whose folders are labels."""


def document_of(place: Path, said: Said, stated: Mapping[str, Any]) -> dict[str, Any] | None:
    """Keys of a spec for a folder or a file.

    Args:
        place: class folders, MVTec's tree, a folder of images or shards, a list of images, or what else a
            layout knows.
        said: what the user says of the labels.
        stated: keys of the layout that the user states.

    Returns:
        None for a file that no layout knows.

    Raises:
        DataError: a folder that no layout knows, or something damaged.
        UsageError: which class is the minority, or whether the images are normal, is not obvious.
    """
    found = _recognised(place, said, stated)
    if found is None:
        if place.is_dir():
            raise _no_images(place)
        if is_archive_name(place.name):
            raise DataError(
                f"{place}: an archive, which score reads, but training does not. Unpack it and name the "
                "folder that holds the class folders."
            )
        return None
    name = place.resolve().name if place.is_dir() else place.stem
    common = {"name": identifier(name), "title": f"images of {name}"}
    return {**common, **document_of_recognised(found, str(place), said)}


def _recognised(place: Path, said: Said, stated: Mapping[str, Any]) -> Recognised | None:
    layouts = LAYOUTS
    if said.unlabelled:
        # Neither the names of folders nor a column tell anything that is to be used.
        layouts = tuple(each for each in LAYOUTS if each.model_fields["kind"].default not in _FOLDERS)
        stated = {**stated, "label_column": None}
    found = next(filter(None, (layout.recognise(place, stated) for layout in layouts)), None)
    if found is None and said.unlabelled and place.is_dir():
        return ImageFolder.whole(place)
    return found


def document_of_recognised(found: Recognised, where: str, said: Said) -> dict[str, Any]:
    """Layout, classes and minority of something recognised.

    Args:
        found: what a layout made of it.
        where: what to name in messages.
        said: what the user says of the labels.

    Raises:
        UsageError: which class is the minority, or whether the images are normal, is not obvious.
    """
    if len(found.classes) < 2:
        return _document_of_one_class(found, where, said)
    if said.unlabelled:
        # The layout needs the names of its classes, of which no use is made.
        minority = found.minority or said.minority or found.classes[-1]
        return {"layout": found.layout, "classes": found.classes, "minority": minority, "unlabelled": True}
    if said.normal is None:
        minority = found.minority or said.minority or _obvious_minority(where, found.count())
        return {"layout": found.layout, "classes": found.classes, "minority": minority}
    normal = said.normal_among(found.classes, where)
    others = [name for name in found.classes if name != normal]
    if len(others) == 1:
        return {"layout": found.layout, "classes": found.classes, "minority": others[0]}
    return _document_of_kinds(found, normal, others, where, said)


def _document_of_one_class(found: Recognised, where: str, said: Said) -> dict[str, Any]:
    """A set of normal images, or without labels.

    Raises:
        UsageError: it may be something else, which the user must say.
    """
    named = found.classes[0] if found.classes else None
    if named is not None and said.normal is None:
        if found.question:
            raise UsageError(found.question)
        is_minority = said.minority is not None and said.minority.lower() == named.lower()
        if is_minority or is_named_like_a_minority(named):
            raise UsageError(
                f"{where}: all its images are of '{named}', which sounds like the minority, and nothing can "
                f"be learned without normal images. If they are normal, say --normal {named}. If they are "
                f"not, add normal images as another class, and name the minority with --minority {named}."
            )
    normal = said.normal_among(found.classes, where) if named is not None and said.normal else named
    normal = normal or said.normal or "normal"
    minority = said.minority or _ANOMALOUS
    if minority.lower() == normal.lower():
        raise UsageError(
            f"{where}: {normal} cannot be both the normal class and the minority. "
            "Give the minority another name with --minority."
        )
    document = {"layout": found.layout, "classes": [normal, minority], "minority": minority}
    return document | ({"unlabelled": True} if named is None and said.normal is None else {})


def _document_of_kinds(
    found: Recognised, normal: str, others: list[str], where: str, said: Said
) -> dict[str, Any]:
    """Classes but the normal one as kinds of one minority.

    Raises:
        UsageError: the minority is one of them, or the layout cannot put classes together.
    """
    kinds = ", ".join(others)
    minority = said.minority or _ANOMALOUS
    if spelt(minority, found.classes) in found.classes:
        raise UsageError(
            f"{where}: --normal {normal} takes {kinds} for kinds of one minority, and --minority {minority} "
            "is one of these classes. Leave one of the two out."
        )
    kind = found.layout["kind"]
    if kind == "class_folders":
        layout = {**found.layout, "kinds_of_class": {minority: others}}
    elif kind == "image_list" and "values_of_class" not in found.layout:
        layout = {**found.layout, "values_of_class": {normal: [normal], minority: others}}
    else:
        raise UsageError(f"{where}: of {kinds}, which is the minority? Name it with --minority NAME.")
    return {"layout": layout, "classes": [normal, minority], "minority": minority}


def identifier(name: str) -> str:
    """A folder's name as the name of a data set: letters, digits and ``._-`` only."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-") or "images"


def _no_images(folder: Path) -> DataError:
    """What to say of a folder in which no layout finds images."""
    train = split_folders(folder).train
    found = subfolders(folder / train if train else folder)
    packed = sorted(path.name for path in folder.iterdir() if is_archive_name(path.name))
    unpack = f"Unpack {packed[0]} and name the folder that holds its images, or lay" if packed else "Lay"
    others = images_of_other_endings(folder)
    return DataError(
        f"{folder}: no images that could be a data set; its folders: {', '.join(found) or 'none'}. "
        f"{f'There is {of_other_endings(others)}, whose endings are not read. ' if others else ''}"
        f"{unpack} images out as <class>/*.jpg, as train/<class>/*.jpg and test/<class>/*.jpg, or, where "
        "labels are unknown or all are normal, as *.jpg. With --unlabelled all images below it are taken."
    )


def _obvious_minority(where: str, counts: dict[str, int]) -> str:
    smallest = min(counts, key=lambda name: counts[name])
    others = [count for name, count in counts.items() if name != smallest]
    is_normal = smallest.lower() in _NORMAL_NAMES
    if min(others) < _OBVIOUS_RATIO * max(counts[smallest], 1) or is_normal:
        facts = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageError(
            f"{where}: which class is the minority is not obvious ({facts}). Name it with --minority NAME"
            + (f", or say --normal {smallest}." if is_normal else ".")
        )
    return smallest
