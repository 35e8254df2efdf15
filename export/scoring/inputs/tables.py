"""Parquet files as input: a column of paths, or a column of image bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from contracts.errors import DataError, UsageError, nearest_match
from imagedata.containers.parquet import (
    BrokenTableError,
    holds_images,
    number_of_rows,
    parquet_rows,
    parquet_schema,
)
from imagedata.containers.reader import Container

DEFAULT_PATH_COLUMN = "path"
"""Column that paths are taken from where none is named."""

_BYTES_COLUMN = "image"  # what Hugging Face's datasets call it


@dataclass(frozen=True)
class ImageTable:
    """A parquet file and the column that is read of it.

    Attributes:
        path: the file.
        column: its name.
        holds_bytes: the column holds image files themselves; else paths.
        rows: number of rows.
    """

    path: str
    column: str
    holds_bytes: bool
    rows: int

    def paths(self) -> Iterator[str]:
        """The paths, as they are written.

        Raises:
            DataError: a row has none, or the file is damaged.
        """
        try:
            for row, cells in enumerate(parquet_rows(self.path, [self.column])):
                if not cells[self.column]:
                    raise DataError(
                        f"table {self.path}: row {row} has no {self.column}. Leave such rows out."
                    )
                yield cells[self.column]
        except BrokenTableError as error:
            raise _unreadable(self.path, error) from error

    def container(self) -> Container:
        """The file, for images that lie within it."""
        return Container.at(self.path, "parquet", self.column)


def open_table(path: str, column: str | None) -> ImageTable:
    """Look at a parquet file's columns and say how images are taken from it.

    Args:
        path: the file.
        column: the column to take; None for ``path`` where there is one, else ``image``.

    Returns:
        The table. A text column holds paths; a binary one, or a structure with a binary field ``bytes``
        (as Hugging Face's data sets have), holds the image files.

    Raises:
        UsageError: no parquet file, no such column, or a column of another type.
    """
    try:
        schema, rows = parquet_schema(path), number_of_rows(path)
    except BrokenTableError as error:
        raise _unreadable(path, error) from error
    names = schema.names
    chosen = column or (DEFAULT_PATH_COLUMN if DEFAULT_PATH_COLUMN in names else _BYTES_COLUMN)
    if chosen not in names:
        raise UsageError(
            f"table {path}: it has no column '{column or DEFAULT_PATH_COLUMN}', only "
            f"{', '.join(names) or 'none'}.{nearest_match(chosen, names)} Name one with --path-column."
        )
    kind = schema.field(chosen).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ImageTable(path, chosen, False, rows)
    if holds_images(kind):
        return ImageTable(path, chosen, True, rows)
    raise UsageError(
        f"table {path}: column '{chosen}' is of type {schema.field(chosen).type}, neither paths (text) nor "
        "image files (binary). Name another with --path-column."
    )


def _unreadable(path: str, error: BrokenTableError) -> UsageError:
    return UsageError(f"table {path} cannot be read ({error}). Give a parquet file with a column of paths.")
