"""From what the user wrote as DATASET to a spec: a name, a YAML file, a folder, or a list of images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from contracts.errors import UsageError, nearest_match
from imagedata.layouts.recognise import document_of
from imagedata.plain_yaml import parse_yaml

CATALOGUE_DIR = Path(__file__).parent / "catalogue"

_FAMILY = "CATEGORY"
"""Stands in a file name of the catalogue for each of the ``categories`` that the file names."""


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
    return sorted(_catalogue())


def family_of(name: str) -> str:
    """What several names of the catalogue have in common, such as ``mvtec_<category>``; else the name."""
    return _catalogue()[name][0].stem.replace(_FAMILY, "<category>") if name in _catalogue() else name


def own_specs_dir() -> Path:
    """Folder of the specs of ``datasets add``: ``OUTNUMBERED_SPECS``, or one of the user's settings."""
    stated = os.environ.get("OUTNUMBERED_SPECS")
    if stated:
        return Path(stated)
    settings = os.environ.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path("~/.config").expanduser()) / "outnumbered" / "datasets"


def own_names() -> list[str]:
    """Names of the data sets that the user added, sorted."""
    try:
        return sorted(path.stem for path in own_specs_dir().glob("*.yaml") if not path.name.startswith("."))
    except OSError:
        return []


def resolve_dataset(dataset: str, minority: str | None = None) -> ResolvedDataset:
    """Find the spec behind a command line's DATASET.

    Args:
        dataset: name of the catalogue or of the user's own, path of a YAML spec, a folder (class by class,
            as MVTec's, or of shards), or a list of images.
        minority: the minority class as the user names it; needed where it is not obvious.

    Raises:
        UsageError: no such name, file or folder; or the minority is not obvious.
        DataError: a folder or list without at least two classes of images.
    """
    suffix = Path(dataset).suffix.lower()
    if dataset in _catalogue():
        resolved = ResolvedDataset(_catalogue_document(dataset), f"data set {dataset}", None)
    elif dataset in own_names():
        path = own_specs_dir() / f"{dataset}.yaml"
        resolved = ResolvedDataset(read_yaml_mapping(path), str(path), path.parent)
    elif suffix in {".yaml", ".yml"} and not Path(dataset).is_dir():
        path = Path(dataset)
        if not path.is_file():
            raise UsageError(f"data set '{dataset}': no such file. Name an existing YAML spec.")
        resolved = ResolvedDataset(read_yaml_mapping(path), str(path), path.parent)
    elif (
        dataset and Path(dataset).exists() and (document := document_of(Path(dataset), minority)) is not None
    ):
        path = Path(dataset)
        data_dir = path if path.is_dir() else path.parent
        resolved = ResolvedDataset(document, dataset, data_dir, is_folder=True)
    else:
        known = [*catalogue_names(), *own_names()]
        raise UsageError(
            f"data set '{dataset}': neither in the catalogue ({', '.join(known)}) nor a folder, "
            f"a YAML file or a list of images.{nearest_match(dataset, known)}"
        )
    if minority is not None:
        resolved.document["minority"] = minority
    return resolved


def _recognised(dataset: str, minority: str | None) -> ResolvedDataset | None:
    """A folder or file that some layout knows; None where there is none of that name."""
    path = Path(dataset)
    document = document_of(path, minority) if dataset and path.exists() else None
    if document is None:
        return None
    return ResolvedDataset(document, dataset, path if path.is_dir() else path.parent, is_folder=True)


@cache
def _catalogue() -> dict[str, tuple[Path, str]]:
    """Name → file of the catalogue, and the category that the name stands for; empty for most."""
    found = {}
    for path in CATALOGUE_DIR.glob("*.yaml"):
        categories = read_yaml_mapping(path)["categories"] if _FAMILY in path.stem else [""]
        found.update({path.stem.replace(_FAMILY, category): (path, category) for category in categories})
    return found


def _catalogue_document(name: str) -> dict[str, Any]:
    path, category = _catalogue()[name]
    document = read_yaml_mapping(path)
    if category:
        document.pop("categories")
        document = _filled_in(document, category)
    return document


def _filled_in(value: Any, category: str) -> Any:
    """A copy of a document in which every ``{category}`` is the category."""
    if isinstance(value, str):
        return value.replace("{category}", category)
    if isinstance(value, list):
        return [_filled_in(each, category) for each in value]
    if isinstance(value, dict):
        return {key: _filled_in(each, category) for key, each in value.items()}
    return value


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
