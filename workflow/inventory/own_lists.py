"""Lists of images that a caller from Python had in memory, kept beside the runs that read them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from contracts.errors import UsageError
from contracts.files import digest_of, write_text

LISTS_FOLDER = "lists"

Columns = dict[str, Sequence[str]]
"""Name of a column → its texts, one per image."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write_list(columns: Mapping[str, Sequence[str]], name: str | None, runs: Path) -> Path:
    """Write a list of images as a data set of its own.

    Args:
        columns: ``path`` and, where they are known, labels, groups and splits, by their usual names.
        name: of the data set; a changed list of the same name is the same data set with other images. None
            for one that follows from the content.
        runs: folder of the runs.

    Returns:
        The file, ``RUNS/lists/NAME.csv``; the same columns give the same file.

    Raises:
        UsageError: a name that cannot be a folder's.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(
            f"name '{name}': use letters, digits and ._- only, and begin with a letter or digit."
        )
    path = runs / LISTS_FOLDER / f"{name or f'images-{digest_of(dict(columns))[:8]}'}.csv"
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    if not path.exists() or path.read_text(encoding="utf-8") != text.getvalue():
        write_text(path, text.getvalue())
    return path.absolute()
