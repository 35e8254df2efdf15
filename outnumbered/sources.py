"""From what a caller has in hand to what the command line is given: a data set's name, and overrides."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from contracts.errors import UsageError
from imagedata.layouts.lists.columns import column_of_role
from imagedata.plain_yaml import parse_yaml
from workflow.inventory.own_lists import Columns, write_list

if TYPE_CHECKING:
    import pandas as pd

    Place: TypeAlias = str | os.PathLike[str]
    Source: TypeAlias = "Place | Sequence[Place] | pd.DataFrame"
    """A data set: its name in the catalogue, a folder, a list or a YAML spec; paths; or a table of them."""


def dataset_of(source: Source, labels: Sequence[Any] | None, name: str | None, runs: Path) -> str:
    """What the command line would be given as DATASET; paths and tables are written into a list first.

    Args:
        source: name, folder, list, spec, paths or table.
        labels: one per path, where ``source`` is a sequence of paths.
        name: of the list, and so of the run; None for one that follows from its content.
        runs: folder of the runs, which keeps the lists.

    Raises:
        UsageError: no such kind of source, or labels that do not fit.
    """
    if isinstance(source, str | os.PathLike):
        _refuse("labels", labels, "a data set that lies on disk has its own")
        _refuse("name", name, "a data set that lies on disk is called like its folder or file")
        return os.fspath(source)
    if hasattr(source, "columns") and hasattr(source, "to_dict"):
        _refuse("labels", labels, "a table has a column of them")
        return str(write_list(_columns_of_table(source), name, runs))
    if (
        isinstance(source, Sequence)
        and source
        and all(isinstance(each, str | os.PathLike) for each in source)
    ):
        columns: Columns = {"path": [_absolute(os.fspath(each)) for each in source]}
        if labels is not None:
            if len(labels) != len(source):
                raise UsageError(
                    f"labels: got {len(labels)} for {len(source)} paths. Give one label per path, in order."
                )
            columns["label"] = [str(label) for label in labels]
        return str(write_list(columns, name, runs))
    raise UsageError(
        f"source: got {type(source).__name__}. Give a data set's name, a folder, a list file, a YAML spec, a "
        "sequence of at least one path with labels=..., or a DataFrame with a column of paths."
    )


def overrides_of(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Keyword arguments as the ``-o key=value`` of the command line; mappings become dotted keys.

    >>> overrides_of({"folds": 3, "backbone": {"image_size": 320}, "members": {"cnn_focal": False}})
    ('folds=3', 'backbone.image_size=320', 'members.cnn_focal=false')
    >>> overrides_of({"threshold": "cost:1:10"})
    ('threshold=cost:1:10',)
    """
    return tuple(f"{key}={_written(value)}" for key, value in _flat("", given))


def _flat(above: str, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in given.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(f"{above}{key}.", value)
        else:
            yield f"{above}{key}", value


def _written(value: Any) -> str:
    """A value as the command line reads it back."""
    if hasattr(value, "item") and not isinstance(value, Mapping):
        value = value.item()  # a number of numpy's
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and _reads_back(value):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        raise UsageError(
            f"override: got a {type(value).__name__}, {value!r}. Give numbers, texts, lists, dicts or None."
        ) from None


def _reads_back(text: str) -> bool:
    try:
        return bool(parse_yaml(text) == text)
    except ValueError:
        return False


def _columns_of_table(table: pd.DataFrame) -> Columns:
    """A table's columns as texts, its paths made absolute.

    Raises:
        UsageError: no row, or no column under a usual name of paths.
    """
    columns: Columns = {}
    for key in table.columns:
        cells = zip(table[key], table[key].isna(), strict=True)
        columns[str(key)] = ["" if is_missing else str(cell) for cell, is_missing in cells]
    names = list(columns)
    if not len(table):
        raise UsageError("source: the table has no rows. Give one row per image.")
    path_column = column_of_role("path", names)
    if path_column is None:
        raise UsageError(
            f"source: the table has columns {', '.join(names)}, of which none is called like a path. Call "
            "the one with image files 'path', and the one with classes 'label'."
        )
    return {**columns, path_column: [_absolute(path) for path in columns[path_column]]}


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100  # links stay as they are


def _refuse(argument: str, value: object, why: str) -> None:
    if value is not None:
        raise UsageError(f"{argument}: {why}. Leave {argument} out.")
