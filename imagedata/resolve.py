"""From what the user wrote as DATASET to a spec: catalogue name, YAML file, or a folder of classes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import DataError, UsageError, nearest_match
from imagedata.listing import image_files
from imagedata.plain_yaml import parse_yaml

CATALOGUE_DIR = Path(__file__).parent / "catalogue"

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


@dataclass(frozen=True)
class ResolvedDataset:
    """A spec not validated yet, so that overrides can still be laid over it.

    Attributes:
        document: keys of :class:`imagedata.spec.DataSpec`.
        where: what to name in messages about it.
        data_dir: where the images lie if the user names no other place; None for catalogue names.
        is_folder: the images lie in ``data_dir`` and nowhere else.
    """

    document: dict[str, Any]
    where: str
    data_dir: Path | None
    is_folder: bool = False


def catalogue_names() -> list[str]:
    """Names of the data sets that come with the application, sorted."""
    return sorted(path.stem for path in CATALOGUE_DIR.glob("*.yaml"))


def resolve_dataset(dataset: str, minority: str | None = None) -> ResolvedDataset:
    """Find the spec behind a command line's DATASET.

    Args:
        dataset: catalogue name, path of a YAML spec, or a folder laid out class by class.
        minority: the outnumbered class by the user's word; needed for a folder where it is not obvious.

    Raises:
        UsageError: no such name, file or folder; or the minority is not obvious.
        DataError: a folder without at least two classes of images.
    """
    if dataset in catalogue_names():
        path = CATALOGUE_DIR / f"{dataset}.yaml"
        resolved = ResolvedDataset(read_yaml_mapping(path), f"data set {dataset}", None)
    elif Path(dataset).suffix.lower() in {".yaml", ".yml"} and not Path(dataset).is_dir():
        path = Path(dataset)
        if not path.is_file():
            raise UsageError(f"data set '{dataset}': no such file. Name an existing YAML spec.")
        resolved = ResolvedDataset(read_yaml_mapping(path), str(path), path.parent)
    elif dataset and Path(dataset).is_dir():
        resolved = _from_folder(Path(dataset), minority)
    else:
        hint = nearest_match(dataset, catalogue_names())
        raise UsageError(
            f"data set '{dataset}': neither in the catalogue ({', '.join(catalogue_names())}) nor a folder "
            f"or YAML file.{hint}"
        )
    if minority is not None:
        resolved.document["minority"] = minority
    return resolved


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of keys.

    Raises:
        UsageError: not YAML, or not a mapping.
    """
    try:
        document = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error
    except ValueError as error:  # UnicodeDecodeError is one
        raise UsageError(f"{path}: not readable as YAML: {error}.") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: a mapping of keys is expected, got {type(document).__name__}.")
    return document


def _class_folders(folder: Path) -> list[str]:
    """Names of the direct subfolders, sorted; hidden ones are left out."""
    try:
        children = list(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}. Make it readable.") from error
    return sorted(child.name for child in children if child.is_dir() and not child.name.startswith("."))


def _split_folder(names: list[str], accepted: tuple[str, ...]) -> str | None:
    return next((name for name in accepted if name in names), None)


def _from_folder(folder: Path, minority: str | None) -> ResolvedDataset:
    names = _class_folders(folder)
    train, test = _split_folder(names, _TRAIN_NAMES), _split_folder(names, _TEST_NAMES)
    class_root = folder / train if train else folder
    classes = _class_folders(class_root)
    if len(classes) < 2:
        got = ", ".join(classes) if classes else "none"
        raise DataError(
            f"{folder}: at least two class folders are needed, got {got}. "
            "Lay images out as <class>/*.jpg, or as train/<class>/*.jpg and test/<class>/*.jpg."
        )
    counts = {name: sum(1 for _ in image_files(class_root / name)) for name in classes}
    if minority is None:
        minority = _obvious_minority(folder, counts)
    document: dict[str, Any] = {
        "name": _identifier(folder.resolve().name),
        "title": f"images of {folder}",
        "layout": {
            "kind": "class_folders",
            "train": f"{train}/{{class}}" if train else "{class}",
            "test": f"{test}/{{class}}" if train and test else None,
        },
        "classes": classes,
        "minority": minority,
    }
    return ResolvedDataset(document, str(folder), folder, is_folder=True)


def _identifier(folder_name: str) -> str:
    """A folder's name as the name of a data set: letters, digits and ``._-`` only."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", folder_name).strip("._-") or "images"


def _obvious_minority(folder: Path, counts: dict[str, int]) -> str:
    smallest = min(counts, key=lambda name: counts[name])
    others = [count for name, count in counts.items() if name != smallest]
    if min(others) < _OBVIOUS_RATIO * max(counts[smallest], 1):
        facts = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageError(
            f"{folder}: which class is outnumbered is not obvious ({facts}). Say it with --minority NAME."
        )
    return smallest
