"""Rows of files that hold tables: CSV, TSV, TXT and parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from contracts.errors import DataError, nearest_match
from imagedata.containers.parquet import BrokenTableError, parquet_rows, parquet_schema

_TXT_COLUMNS = ("path", "label", "group", "split")


def columns_of_list(table: Path) -> list[str]:
    """Names of a list's columns; those of a TXT file are by place.

    Raises:
        DataError: the list cannot be read.
    """
    if table.suffix.lower() == ".parquet":
        try:
            return [str(name) for name in parquet_schema(table).names]
        except BrokenTableError as error:
            raise _unreadable(table, error) from error
    text = text_of(table)
    if table.suffix.lower() == ".txt":
        most = max((len(_txt_cells(line)) for line in text.split("\n") if line.strip()), default=2)
        return list(_TXT_COLUMNS[:most])
    try:
        return [cell.strip() for cell in next(_csv_reader(table, text), [])]
    except csv.Error as error:
        raise DataError(f"{table}, line 1: {error}. Fix the line.") from error


def rows_of_list(table: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and cells, as text, of each row; only the columns asked for.

    Raises:
        DataError: unreadable, or without one of the columns.
    """
    known = columns_of_list(table)
    for column in columns:
        if column not in known:
            hint = nearest_match(column, known)
            raise DataError(
                f"{table}: it has no column '{column}', only {', '.join(known) or 'none'}.{hint} "
                "Name another with -o layout.path_column=..., label_column, group_column or split_column."
            )
    if table.suffix.lower() == ".parquet":
        yield from _parquet_rows(table, columns)
        return
    text = text_of(table)
    if table.suffix.lower() == ".txt":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield number, _by_name(table, number, list(known), _txt_cells(line))
        return
    reader = _csv_reader(table, text)
    next(reader, None)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, _by_name(table, reader.line_num, list(known), cells)
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: {error}. Fix the line.") from error


def _by_name(table: Path, number: int, columns: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(columns):
        raise DataError(
            f"{table}, line {number}: {len(cells)} cells but {len(columns)} columns ({', '.join(columns)}). "
            "Fix the line; a cell with a separator in it stands in quotes."
        )
    return dict(zip(columns, cells, strict=True))


def _parquet_rows(table: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        for number, row in enumerate(parquet_rows(table, columns), start=1):
            yield number, {key: "" if cell is None else str(cell) for key, cell in row.items()}
    except BrokenTableError as error:
        raise _unreadable(table, error) from error


def _unreadable(table: Path, error: BrokenTableError) -> DataError:
    return DataError(f"{table}: not readable as parquet: {error}. Write it again.")


def _txt_cells(line: str) -> list[str]:
    """Cells of a TXT line: by tabs; without any, the label is what follows the last white space."""
    return line.strip("\r\n").split("\t") if "\t" in line else line.strip().rsplit(maxsplit=1)


def _csv_reader(table: Path, text: str) -> Any:
    separator = "\t" if table.suffix.lower() == ".tsv" else ","
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)


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
