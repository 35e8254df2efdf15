"""The images that two files are compared on, and what is known of them: label, kind and group.

All of it comes from where an image lies or from the columns of a list. Nothing is guessed from pixels, and a
name that is no class of the files is no label.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import DataError, UsageError, nearest_match
from contracts.text import number_of, printable
from export.scoring.inputs.listing import find_images
from imagedata.layouts.image_list import LIST_SUFFIXES
from imagedata.layouts.lists.columns import column_of_role
from imagedata.layouts.lists.table import read_list
from workflow.run.put_aside import GOLDEN_FILE, PutAside

_KIND_COLUMNS = ("kind", "subtype")


@dataclass(frozen=True)
class KnownImage:
    """One image to be scored by both files.

    Attributes:
        path: as both files are given it, and as their rows name it.
        label: class name; empty where it is not known.
        kind: a finer name than the class, such as the kind of a defect; empty where there is none.
        group: patient, lot or folder; empty where there is none.
    """

    path: str
    label: str = ""
    kind: str = ""
    group: str = ""


def images_of(place: Path, classes: Sequence[str], option: str = "FOLDER") -> list[KnownImage]:
    """The images of a folder or a list.

    A sub-folder that is called like a class gives the label, what lies below it the kind, and what it lies in
    the group. Where there is the folder of the normal class, but none of the minority's name, the others are
    kinds of the minority. Any other sub-folder is a group.

    Args:
        place: a folder, or a list (:data:`imagedata.layouts.image_list.LIST_SUFFIXES`) with a column of paths
            relative to its own folder and, where they are known, columns ``label``, ``kind`` and ``group``;
            or the golden set that a run keeps, ``golden.json``.
        classes: of both files, minority last.
        option: what the place was given as, for messages.

    Raises:
        UsageError: there is no such place, or it is neither.
        DataError: it holds no image, or a row of the list cannot be taken.
    """
    if place.is_dir():
        return _of_folder(place, classes)
    if not place.exists():
        raise UsageError(f"{option} {place}: does not exist. Name a folder of images or a list of them.")
    if place.name == GOLDEN_FILE:
        return images_put_aside(PutAside.read(place.parent, "golden"))
    if place.suffix.lower() not in LIST_SUFFIXES:
        raise UsageError(
            f"{option} {place}: neither a folder nor a list ({', '.join(LIST_SUFFIXES)}). Name one of them."
        )
    return _of_list(place, classes, option)


def images_put_aside(aside: PutAside) -> list[KnownImage]:
    """Images of a run that never train, where the run keeps them."""
    return [KnownImage(str(aside.file_of(row)), row.label, row.kind, row.group) for row in aside.rows]


def _of_folder(folder: Path, classes: Sequence[str]) -> list[KnownImage]:
    paths = find_images([folder]).paths
    parts_of = {path: Path(os.path.relpath(path, folder)).parts[:-1] for path in paths}
    tops = {parts[0] for parts in parts_of.values() if parts}
    normal, minority = classes[0], classes[-1]
    others_are_kinds = len(classes) == 2 and normal in tops and minority not in tops
    images = []
    for path, parts in parts_of.items():
        top = parts[0] if parts else ""
        at = next((i for i, part in enumerate(parts) if part in classes), None)
        if at is not None:
            images.append(KnownImage(path, parts[at], "/".join(parts[at + 1 :]), "/".join(parts[:at])))
        elif others_are_kinds and top:
            images.append(KnownImage(path, minority, kind=top))
        else:
            images.append(KnownImage(path, group=top))
    return images


def _of_list(file: Path, classes: Sequence[str], option: str) -> list[KnownImage]:
    table = read_list(file)
    columns = {role: column_of_role(role, table.columns) for role in ("path", "label", "group")}
    columns["kind"] = next((name for name in _KIND_COLUMNS if name in table.columns), None)
    if columns["path"] is None:
        raise DataError(
            f"{option} {file}: it has no column of paths, only {', '.join(table.columns)}. Call one 'path'."
        )
    images = []
    for number, cells in table.rows:
        where = f"{file}, line {number}"
        if len(cells) != len(table.columns):
            wanted = number_of(len(table.columns), "column")
            raise DataError(f"{where}: {number_of(len(cells), 'cell')} for {wanted}. Fix the row.")
        row = dict(zip(table.columns, (cell.strip() for cell in cells), strict=True))
        said = {role: row[name] if name is not None else "" for role, name in columns.items()}
        if said["label"] and said["label"] not in classes:
            raise DataError(
                f"{where}: '{printable(said['label'])}' is no class; the classes of both files are "
                f"{', '.join(classes)}.{nearest_match(said['label'], classes)} Fix the row, or leave the "
                "label empty where nobody knows it."
            )
        path = os.path.join(file.parent, said["path"])  # noqa: PTH118 - as score reads lists
        images.append(KnownImage(path, said["label"], said["kind"], said["group"]))
    if not images:
        raise DataError(f"{option} {file}: the list has no rows. Write one row per image.")
    twice = [path for path, count in Counter(image.path for image in images).items() if count > 1]
    if twice:
        raise DataError(f"{option} {file}: {printable(twice[0])} is named twice. Keep one of the rows.")
    return images
