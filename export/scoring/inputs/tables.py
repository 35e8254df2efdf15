"""Parquet files as input: a column of paths, or a column of image bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import DataError, UsageError, nearest_match
from export.scoring.inputs.containers import Container

DEFAULT_PATH_COLUMN = "path"
"""Column that paths are taken from where none is named."""

_BYTES_COLUMN = "image"  # what Hugging Face's datasets call it
_ROWS_AT_A_TIME = 4096


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
            with pq.ParquetFile(self.path) as file:
                row = 0
                for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=[self.column], use_threads=False):
                    for value in batch.column(0).to_pylist():
                        if not value:
                            raise DataError(
                                f"table {self.path}: row {row} has no {self.column}. Leave such rows out."
                            )
                        yield value
                        row += 1
        except (OSError, pa.ArrowException) as error:
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
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
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
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return ImageTable(path, chosen, True, rows)
    raise UsageError(
        f"table {path}: column '{chosen}' is of type {schema.field(chosen).type}, neither paths (text) nor "
        "image files (binary). Name another with --path-column."
    )


def _unreadable(path: str, error: Exception) -> UsageError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
    return UsageError(f"table {path} cannot be read ({reason}). Give a parquet file with a column of paths.")
