"""From what the user wrote as DATASET to a spec: a name, a YAML file, a folder, or a list of images."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from contracts.errors import UsageError, nearest_match
from imagedata.layouts.image_list import LIST_SUFFIXES
from imagedata.layouts.recognise import document_of
from imagedata.layouts.said import Said, spelt
from imagedata.plain_yaml import parse_yaml

CATALOGUE_DIR = Path(__file__).parent / "catalogue"

_NOTHING = Said()

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


def resolve_dataset(
    dataset: str, said: Said = _NOTHING, layout: Mapping[str, Any] = MappingProxyType({})
) -> ResolvedDataset:
    """Find the spec behind a command line's DATASET.

    Args:
        dataset: name of the catalogue or of the user's own, path of a YAML spec, a folder (class by class,
            as MVTec's, or of shards), or a list of images.
        said: what the user says of the labels; needed where it is not obvious.
        layout: keys of the layout that the user states with ``-o layout.KEY=...``; they guide what a folder
            or list is recognised as, and still have to be laid over the spec.

    Raises:
        UsageError: no such name, file or folder; or which class is the minority, or whether images are
            normal, is not obvious.
        DataError: a folder or list without images.
    """
    said.require_no_contradiction()
    # Names come before paths: a folder that is called like a set of the catalogue can be given as ./name.
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
    elif dataset and Path(dataset).exists():
        path = Path(dataset)
        document = document_of(path, said, layout)
        if document is None:
            raise UsageError(
                f"data set '{dataset}': a file of no known kind. Give a YAML spec, or a list of images "
                f"({', '.join(LIST_SUFFIXES)})."
            )
        data_dir = path if path.is_dir() else path.parent
        resolved = ResolvedDataset(document, dataset, data_dir, is_folder=True)
    else:
        raise _not_found(dataset)
    _lay_over(resolved, said)
    return resolved


def _lay_over(resolved: ResolvedDataset, said: Said) -> None:
    """Put what the user says of the labels into a document; that of a folder has most of it already.

    Raises:
        UsageError: the normal class is none, or leaves the minority open.
    """
    document = resolved.document
    stated = document.get("classes")
    classes = [each for each in stated if isinstance(each, str)] if isinstance(stated, list) else []
    if said.minority is not None:
        document["minority"] = spelt(said.minority, classes)
    if said.unlabelled:
        document["unlabelled"] = True
    if said.normal is None or resolved.is_folder:
        return
    normal = said.normal_among(classes, resolved.where)
    others = [name for name in classes if name != normal]
    if len(others) == 1:
        document["minority"] = others[0]
    elif said.minority is None:
        raise UsageError(
            f"{resolved.where}: of {', '.join(others)}, which is the minority? Name it with --minority NAME."
        )


def _not_found(dataset: str) -> UsageError:
    """What to say where there is neither a name nor a place like this."""
    path = Path(dataset)
    is_path = any(separator in dataset for separator in ("/", "\\")) or path.suffix.lower() in LIST_SUFFIXES
    known = [*catalogue_names(), *own_names()]
    if not is_path:
        return UsageError(
            f"data set '{dataset}': neither in the catalogue ({', '.join(known)}) nor a folder, "
            f"a YAML file or a list of images.{nearest_match(dataset, known)}"
        )
    what = "file" if path.suffix.lower() in LIST_SUFFIXES else "folder"
    missing = path
    while missing.parent != missing and not missing.parent.is_dir():
        missing = missing.parent  # the first folder of the path that is not there
    try:
        siblings = [each.name for each in missing.parent.iterdir() if not each.name.startswith(".")]
    except OSError:
        siblings = []
    close = difflib.get_close_matches(missing.name, siblings, n=1, cutoff=0.5)
    hint = f" Did you mean '{missing.parent / close[0]}'?" if close else ""
    where = "" if missing == path else f"; {missing} does not exist"
    return UsageError(f"data set '{dataset}': no such {what}{where}.{hint}")


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
