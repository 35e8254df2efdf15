"""Rows of files that hold tables: CSV, TSV, TXT and parquet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from contracts.errors import DataError, nearest_match
from imagedata.containers.parquet import BrokenTableError, parquet_rows, parquet_schema
from imagedata.file_names import is_image_name
from imagedata.layouts.lists.columns import has_header

_TXT_COLUMNS = ("path", "label", "group", "split")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True)
class ListTable:
    """A user's list as it is written.

    Attributes:
        columns: their names; those of a TXT file without a first line of names are by place.
        rows: number and cells of each row, empty rows left out; ``number`` is the line of a text file, or
            the row of a parquet file, from 1. A row may have more or fewer cells than there are columns.
        separator: what separates the cells, in words; empty for parquet files and for white space.
    """

    columns: list[str]
    rows: list[tuple[int, list[str]]]
    separator: str = ""

    def by_name(self) -> list[dict[str, str]]:
        """The rows that have a cell for each column, by the columns' names."""
        width = len(self.columns)
        return [dict(zip(self.columns, cells, strict=True)) for _, cells in self.rows if len(cells) == width]

    def require_columns(self, table: Path, wanted: Iterable[str]) -> None:
        """Check that columns exist.

        Raises:
            DataError: one does not.
        """
        for column in wanted:
            if column not in self.columns:
                hint = nearest_match(column, self.columns)
                raise DataError(
                    f"{table}: it has no column '{column}', only {', '.join(self.columns) or 'none'}.{hint} "
                    "Name another with -o layout.path_column=..., label_column, group_column or "
                    "split_column; a list without labels is read with --unlabelled."
                )


def read_list(table: Path) -> ListTable:
    """Read a CSV, TSV, TXT or parquet file; commas, semicolons and tabs are told apart by the first line.

    Raises:
        DataError: it cannot be read.
    """
    if table.suffix.lower() == ".parquet":
        return _read_parquet(table)
    text = text_of(table)
    lines = text.split("\n")
    first = next((line for line in lines if line.strip()), "")
    stated = re.fullmatch(r"sep=(.)", first.strip())  # as spreadsheets write it
    if stated:
        skipped = lines.index(first) + 1
        return _read_csv(table, "\n".join(lines[skipped:]), stated[1], skipped)
    separator = _separator(table, first)
    if table.suffix.lower() != ".txt" or has_header(_cells(table, first, separator)):
        return _read_csv(table, text, separator, 0)
    return _read_txt(lines)


def _read_csv(table: Path, text: str, separator: str, skipped: int) -> ListTable:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: list[str] = []
    rows = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if columns:
                rows.append((skipped + reader.line_num, cells))
            else:
                columns = [cell.strip() for cell in cells]
    except csv.Error as error:
        raise DataError(f"{table}, line {skipped + reader.line_num}: {error}. Fix the line.") from error
    return ListTable(columns, rows, _SEPARATORS.get(separator, f"'{separator}'"))


def _separator(table: Path, line: str) -> str:
    """What separates the most cells of a line; where nothing does, what the file's ending promises."""
    promised = "\t" if table.suffix.lower() == ".tsv" else ","
    return max([promised, *_SEPARATORS], key=lambda separator: len(_cells(table, line, separator)))


def _cells(table: Path, line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error as error:
        raise DataError(f"{table}, line 1: {error}. Fix the line.") from error


def _read_txt(lines: list[str]) -> ListTable:
    """A TXT file without names of columns: tabs, or one separator in every line, or white space."""
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    separator = next(
        (
            each
            for each in (";", ",")
            if all(is_image_name(line.split(each)[0].strip()) for _, line in numbered)
        ),
        None,
    )
    if any("\t" in line for _, line in numbered):
        separator = "\t"
    elif numbered and all(is_image_name(line.strip()) for _, line in numbered):
        return ListTable(["path"], [(number, [line]) for number, line in numbered])
    if separator is None:
        # The label is what follows the last white space; a path may hold some.
        rows = [(number, line.strip().rsplit(maxsplit=1)) for number, line in numbered]
    else:
        rows = [(number, line.split(separator)) for number, line in numbered]
    widest = max((len(cells) for _, cells in rows), default=2)
    return ListTable(list(_TXT_COLUMNS[:widest]), rows, _SEPARATORS[separator] if separator else "")


def _read_parquet(table: Path) -> ListTable:
    try:
        schema = parquet_schema(table)
        # Pictures and nested values are no paths and no labels, and may be large.
        columns = [
            str(field.name)
            for field in schema
            if not (pa.types.is_nested(field.type) or _is_binary(field.type))
        ]
        rows = [
            (number, ["" if row[column] is None else str(row[column]) for column in columns])
            for number, row in enumerate(parquet_rows(table, columns), start=1)
        ]
    except BrokenTableError as error:
        raise DataError(f"{table}: not readable as parquet: {error}. Write it again.") from error
    return ListTable(columns, rows)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def text_of(table: Path) -> str:
    """The text of a file.

    Raises:
        DataError: unreadable, or not UTF-8.
    """
    try:
        # "utf-8-sig" drops the mark that spreadsheets put at the beginning of a file.
        return table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: not readable as UTF-8 text: {error}. Save it as UTF-8.") from error


def require_values(values_of_class: Mapping[str, Sequence[str]], classes: Sequence[str]) -> None:
    """Check that every class has label values.

    Raises:
        ValueError: one has none.
    """
    missing = [name for name in classes if not values_of_class.get(name)]
    if missing:
        raise ValueError(f"layout.values_of_class gives no values for {missing}")
