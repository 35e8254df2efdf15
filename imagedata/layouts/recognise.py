"""What a folder or a list of the user's own is: class folders, MVTec's tree, shards, or a list of images."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from contracts.errors import DataError, UsageError
from imagedata.layouts.kinds import ImageList, Shards
from imagedata.layouts.one_image import image_files
from imagedata.layouts.shard_formats import parquet_class_names, parquet_labels
from imagedata.layouts.shards import samples_of, shard_files
from imagedata.layouts.tables import columns_of_list, read_list

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
_OBVIOUS_RATIO = 2.0
"""A class is obviously outnumbered when every other class has at least this many times its images."""

_ANOMALOUS = "anomalous"
"""Name of the minority in MVTec's tree, whose folders are kinds of it."""

_MOST_CLASSES = 1000

SHARD_SUFFIXES = (".parquet", ".tar", ".tar.gz", ".tgz")
"""Endings of shards: parquet's, and webdataset's."""


def document_of_folder(folder: Path, minority: str | None) -> dict[str, Any]:
    """Keys of a spec for a folder.

    Args:
        folder: laid out class by class, as MVTec's categories are, or with shards in it.
        minority: the outnumbered class by the user's word; needed where it is not obvious.

    Raises:
        DataError: nothing of the kind.
        UsageError: the minority is not obvious.
    """
    names = _subfolders(folder)
    train, test = _split_folder(names, _TRAIN_NAMES), _split_folder(names, _TEST_NAMES)
    class_root = folder / train if train else folder
    classes = _subfolders(class_root)
    common = {"name": identifier(folder.resolve().name), "title": f"images of {folder}"}
    if train and test and len(classes) == 1:
        kinds = _subfolders(folder / test)
        if classes[0] in kinds and len(kinds) > 1:
            layout = {"kind": "anomaly_folders", "train": train, "test": test, "normal": classes[0]}
            return {**common, "layout": layout, "classes": [classes[0], _ANOMALOUS], "minority": _ANOMALOUS}
    if len(classes) < 2:
        shards = _shards(folder)
        if shards is not None:
            return {**common, **_document_of_shards(folder, shards, minority)}
        got = ", ".join(classes) if classes else "none"
        raise DataError(
            f"{folder}: at least two class folders are needed, got {got}. "
            "Lay images out as <class>/*.jpg, or as train/<class>/*.jpg and test/<class>/*.jpg."
        )
    if minority is None:
        minority = _obvious_minority(
            str(folder), {name: sum(1 for _ in image_files(class_root / name)) for name in classes}
        )
    return {
        **common,
        "layout": {
            "kind": "class_folders",
            "train": f"{train}/{{class}}" if train else "{class}",
            "test": f"{test}/{{class}}" if train and test else None,
        },
        "classes": classes,
        "minority": minority,
    }


def document_of_list(table: Path, minority: str | None) -> dict[str, Any]:
    """Keys of a spec for a CSV, TSV, TXT or parquet list of images.

    The columns are ``path`` and ``label`` and, where they are there, ``group`` and ``split``.

    Raises:
        DataError: the list is unreadable, or names fewer than two classes.
        UsageError: the minority is not obvious.
    """
    layout: dict[str, Any] = {"kind": "image_list", "table": str(table.absolute())}
    columns = columns_of_list(table)
    for key in ("group", "split"):
        if key in columns:
            layout[f"{key}_column"] = key
    counts = Counter(row.label for row in read_list(ImageList(**layout), table))
    _require_classes(f"{table}: column label", counts)
    return {
        "name": identifier(table.stem),
        "title": f"images of {table}",
        "layout": layout,
        "classes": sorted(counts),
        "minority": minority or _obvious_minority(str(table), dict(sorted(counts.items()))),
    }


def identifier(name: str) -> str:
    """A folder's name as the name of a data set: letters, digits and ``._-`` only."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-") or "images"


def document_of_shards(folder: Path, minority: str | None) -> dict[str, Any] | None:
    """Keys of a spec for the shards in a folder or its folder ``data``, whatever else lies there.

    Returns:
        None where there are none.

    Raises:
        DataError: they hold fewer than two classes.
        UsageError: the minority is not obvious.
    """
    layout = _shards(folder) if folder.is_dir() else None
    return None if layout is None else _document_of_shards(folder, layout, minority)


def _shards(folder: Path) -> dict[str, Any] | None:
    """Layout of the shards in a folder or its folder ``data``, or None where there are none."""
    for below in ("", "data/"):
        place = folder / below
        files = sorted(path.name for path in place.iterdir() if path.is_file()) if place.is_dir() else []
        for kind, endings in (("parquet", SHARD_SUFFIXES[:1]), ("webdataset", SHARD_SUFFIXES[1:])):
            mine = [name for name in files if name.endswith(endings) and not name.startswith(".")]
            if not mine:
                continue
            train = [f"{below}{name}" for name in mine if name.lower().startswith("train")]
            test = [f"{below}{name}" for word in ("test", "val") for name in mine if name.startswith(word)]
            if any(Path(name).name.startswith("test") for name in test):
                test = [name for name in test if Path(name).name.startswith("test")]
            return {
                "kind": "shards",
                "format": kind,
                "train": train or [f"{below}{name}" for name in mine],
                "test": test if train and test else None,
            }
    return None


def _document_of_shards(folder: Path, layout: dict[str, Any], minority: str | None) -> dict[str, Any]:
    draft = Shards(**layout, label_of_class={})
    counts: Counter[str] = Counter()
    named: list[str] = []
    for file in shard_files(draft, folder, "train"):
        if draft.format == "parquet":
            counts.update(parquet_labels(file, "label"))
            named = named or parquet_class_names(file, "label")
        else:
            counts.update(sample.label for sample in samples_of(draft, file))
    _require_classes(f"{folder}: labels in the shards", counts)
    label_of_class: dict[str, str | int] = {}
    for label in sorted(counts, key=_numbers_first):
        name = named[int(label)] if label.isdecimal() and int(label) < len(named) else label
        label_of_class[re.sub(r"[^A-Za-z0-9 ._-]+", "_", name).strip("._- ") or f"class_{label}"] = label
    of_class = {name: counts[str(label)] for name, label in label_of_class.items()}
    return {
        "layout": {**layout, "label_of_class": label_of_class},
        "classes": list(label_of_class),
        "minority": minority or _obvious_minority(str(folder), of_class),
    }


def _numbers_first(label: str) -> tuple[bool, int, str]:
    return (not label.isdecimal(), int(label) if label.isdecimal() else 0, label)


def _require_classes(what: str, counts: Counter[str]) -> None:
    if not 2 <= len(counts) <= _MOST_CLASSES:
        shown = ", ".join(sorted(counts)[:3])
        raise DataError(
            f"{what}: two classes are needed, and at most {_MOST_CLASSES}; got {len(counts)} ({shown}). "
            "Name the column of labels in a YAML spec, with layout.label_column or layout.label."
        )


def _subfolders(folder: Path) -> list[str]:
    """Names of the direct subfolders, sorted; hidden ones are left out."""
    try:
        children = list(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}. Make it readable.") from error
    return sorted(child.name for child in children if child.is_dir() and not child.name.startswith("."))


def _split_folder(names: list[str], accepted: tuple[str, ...]) -> str | None:
    return next((name for name in accepted if name in names), None)


def _obvious_minority(where: str, counts: dict[str, int]) -> str:
    smallest = min(counts, key=lambda name: counts[name])
    others = [count for name, count in counts.items() if name != smallest]
    if min(others) < _OBVIOUS_RATIO * max(counts[smallest], 1):
        facts = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageError(
            f"{where}: which class is outnumbered is not obvious ({facts}). Say it with --minority NAME."
        )
    return smallest
