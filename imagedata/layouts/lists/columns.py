"""Which columns of a user's list hold paths, labels, groups and splits, by the names that people use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from imagedata.layouts.splits import TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES

# The usual names of each role, the surest first, without capitals, spaces, dashes and underscores.
_NAMES_OF_ROLE = {
    "path": ("path", "filepath", "imagepath", "file", "filename", "image", "imageid", "imgname", "img", "id"),
    "label": ("label", "class", "target", "category", "y"),
    "group": ("group", "patient", "patientid", "lot"),
    "split": ("split", "fold", "set"),
}
_INDEX = re.compile(r"index|unnamed(:.*)?|", re.IGNORECASE)
"""Names of the column of row numbers that pandas and spreadsheets write; it holds no fact."""

_ZERO_OR_ONE = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "False": 0, "True": 1, "false": 0, "true": 1}

# Of the rows that have a 0 or a 1 in every candidate column, so many must have exactly one 1 for the columns
# to be labels. The others are then faults of those rows.
_LEAST_ONE_HOT_SHARE = 0.5


def column_of_role(role: str, columns: Sequence[str]) -> str | None:
    """The column with the surest name of a role (``path``, ``label``, ``group`` or ``split``), or None."""
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(re.sub(r"[ _-]", "", column.lower()), column)
    return next((by_name[name] for name in _NAMES_OF_ROLE[role] if name in by_name), None)


def has_header(cells: Sequence[str]) -> bool:
    """Whether the cells of a first line name a column of paths and one of labels."""
    return column_of_role("path", cells) is not None and column_of_role("label", cells) is not None


def is_index(column: str) -> bool:
    """Whether a column numbers the rows, by its name."""
    return _INDEX.fullmatch(column.strip()) is not None


def columns_of_layout(
    columns: Sequence[str], rows: Sequence[Mapping[str, str]], stated: Mapping[str, Any]
) -> dict[str, Any]:
    """The columns of a list as keys of its layout; those that are stated are not guessed.

    Args:
        columns: names of all columns.
        rows: cells of all rows.
        stated: keys of the layout that the user states.
    """
    keys = {f"{role}_column": column_of_role(role, columns) for role in _NAMES_OF_ROLE}
    split = keys["split_column"]
    if split is not None and "split_column" not in stated and not _are_splits(split, rows):
        keys["split_column"] = None  # numbers of folds, which somebody else's folds are
    found: dict[str, Any] = {
        key: column for key, column in keys.items() if column is not None and key not in stated
    }
    if "label_column" not in {*found, *stated} and "one_hot_columns" not in stated:
        taken = {*found.values(), *(value for value in stated.values() if isinstance(value, str))}
        one_hot = _one_hot([each for each in columns if each not in taken and not is_index(each)], rows)
        if one_hot:
            found["one_hot_columns"] = one_hot
    return found


def label_of_one_hot(cells: Sequence[str]) -> int | None:
    """Position of the only 1 among zeros; None where there is none or several, or another value."""
    values = [_ZERO_OR_ONE.get(cell.strip()) for cell in cells]
    return values.index(1) if None not in values and values.count(1) == 1 else None


def _one_hot(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Columns of zeros and ones of which most rows have exactly one 1; none where they are no labels."""
    zeros_and_ones = [
        column for column in columns if all(row[column].strip() in _ZERO_OR_ONE for row in rows) and rows
    ]
    if len(zeros_and_ones) < 2:
        return []
    good = sum(label_of_one_hot([row[column] for column in zeros_and_ones]) is not None for row in rows)
    return zeros_and_ones if good > _LEAST_ONE_HOT_SHARE * len(rows) else []


def _are_splits(column: str, rows: Sequence[Mapping[str, str]]) -> bool:
    """Whether a column that is called like a split has at least one name of a split in it."""
    known = {*TRAIN_NAMES, *TEST_NAMES, *VALIDATION_NAMES}
    return any(row[column].strip().lower() in known for row in rows)
