"""Rows of parquet files: cells as they are, and columns that hold encoded images."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imagedata.containers import archive_stream

_ROWS_AT_A_TIME = 4096
_IMAGES_AT_A_TIME = 16


class BrokenTableError(Exception):
    """Why a parquet file cannot be read, as a phrase."""


def parquet_schema(path: str | Path) -> pa.Schema:
    """Names, types and metadata of the columns.

    Raises:
        BrokenTableError: unreadable, or no parquet file.
    """
    with _opened(path) as file:
        return file.schema_arrow


def number_of_rows(path: str | Path) -> int:
    """Number of rows, as the footer says it.

    Raises:
        BrokenTableError: unreadable, or no parquet file.
    """
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def parquet_rows(
    path: str | Path, columns: Sequence[str], *, of_images: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the rows as column → cell, a few at a time.

    Args:
        path: the file.
        columns: the columns to read, all of which must be there.
        of_images: whether one of the columns holds images, of which fewer fit into memory.

    Raises:
        BrokenTableError: unreadable, or damaged.
    """
    at_a_time = _IMAGES_AT_A_TIME if of_images else _ROWS_AT_A_TIME
    with _opened(path) as file:
        for batch in file.iter_batches(at_a_time, columns=list(dict.fromkeys(columns)), use_threads=False):
            yield from batch.to_pylist()


def require_plausible_size(path: str | Path) -> None:
    """Check what the footer claims against the file's size, by the limits that hold for tar archives.

    Raises:
        BrokenTableError: its pages claim far more than the file can hold; or unreadable.
    """
    with _opened(path) as file:
        footer = file.metadata
        claimed = sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))
    if claimed > archive_stream.RATIO_SLACK + archive_stream.MAX_RATIO * os.stat(path).st_size:  # noqa: PTH116
        raise BrokenTableError(f"it claims to hold {claimed:,} bytes, far more than its size allows")


def holds_images(kind: pa.DataType) -> bool:
    """Whether a column of this type holds image files: bytes, or structs with a field ``bytes`` of bytes.

    Hugging Face's ``datasets`` writes the latter.
    """
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def image_of_cell(cell: Any) -> bytes | None:
    """The image file in a cell of such a column; None where the cell holds none."""
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    return data if isinstance(data, bytes) else None


class ParquetImages:
    """A column of images, any row at a time; rows in order are the fast way.

    Raises:
        OSError, pa.ArrowException: unreadable, or no parquet file; also from :meth:`read`.
    """

    def __init__(self, path: str, column: str) -> None:
        self._column = column
        self._file = pq.ParquetFile(path, pre_buffer=False)
        footer = self._file.metadata
        sizes = (footer.row_group(group).num_rows for group in range(footer.num_row_groups))
        self._first_rows = [0, *accumulate(sizes)]
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._group = -1
        self._start = 0
        self._cells: list[Any] = []

    def read(self, row: int) -> bytes | None:
        """The image file in a row, counted from 0; None where there is none."""
        group = bisect_right(self._first_rows, row) - 1
        if group != self._group or row < self._start:
            self._group, self._start, self._cells = group, self._first_rows[group], []
            self._batches = self._file.iter_batches(
                _IMAGES_AT_A_TIME, row_groups=[group], columns=[self._column], use_threads=False
            )
        while row >= self._start + len(self._cells):
            self._start += len(self._cells)
            self._cells = next(self._batches).column(0).to_pylist()
        return image_of_cell(self._cells[row - self._start])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def _opened(path: str | Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BrokenTableError(reason[:200].rstrip(".")) from error
