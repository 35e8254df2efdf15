"""Rows of tables and lists that name images and their labels."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import DataError, nearest_match
from imagedata.layouts.kinds import ImageList, LabelTable
from imagedata.layouts.one_image import ListedImage, Split

_SPLITS: dict[str, Split] = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_TXT_COLUMNS = ("path", "label", "group", "split")


def list_table(layout: LabelTable, root: Path) -> Iterator[ListedImage]:
    """Images of a label table that came with a data set.

    Raises:
        DataError: the table is not UTF-8 text, a line has other cells than columns, or a path leads out of
            ``root``.
    """
    table = root / layout.table
    for number, line in enumerate(_text_of(table).splitlines(), start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(layout.separator)]
        if len(cells) != len(layout.columns):
            raise DataError(
                f"{table}, line {number}: {len(cells)} cells but {len(layout.columns)} columns "
                f"({', '.join(layout.columns)}). Mend the line or name the columns in the spec."
            )
        row = dict(zip(layout.columns, cells, strict=True))
        name = layout.class_of(row[layout.label_column])
        if name is None:
            continue
        if layout.path_pattern is not None:
            path = table.parent / layout.path_pattern.replace("{line}", str(number))
        else:
            path = table.parent / row[layout.path_column]
        if not path.is_relative_to(root):
            raise DataError(
                f"{table}, line {number}: {path} lies outside {root}. Give paths relative to the table."
            )
        group = row[layout.group_column] if layout.group_column else None
        if group == "":
            raise DataError(f"{table}, line {number}: column {layout.group_column} is empty. Fill it in.")
        yield ListedImage(
            path=path.relative_to(root).as_posix(),
            label=name,
            split="train",
            group=group,
            subtype=row[layout.subtype_column] if layout.subtype_column else None,
        )


@dataclass(frozen=True)
class ListRow:
    """One row of a user's own list, as written.

    Attributes:
        number: line of a text file, or row of a parquet file, from 1.
        path: absolute, with ``..`` resolved; links stay as they are.
        label: as written.
        group: as written, None without such a column.
        split: as written, None without such a column.
    """

    number: int
    path: Path
    label: str
    group: str | None
    split: str | None


def read_list(layout: ImageList, table: Path) -> list[ListRow]:
    """Read a CSV, TSV, TXT or parquet list.

    Raises:
        DataError: unreadable, without a column that the layout names, or with an empty cell in one.
    """
    wanted = {
        "path": layout.path_column,
        "label": layout.label_column,
        "group": layout.group_column,
        "split": layout.split_column,
    }
    folder = Path(os.path.abspath(table.parent))  # noqa: PTH100  (links stay as they are)
    rows = []
    for number, row in _rows_of(table, [column for column in wanted.values() if column is not None]):
        cells = {key: row[column].strip() if column else None for key, column in wanted.items()}
        empty = [wanted[key] for key, cell in cells.items() if cell == ""]
        if empty:
            raise DataError(f"{table}, row {number}: column {empty[0]} is empty. Fill it in.")
        if "\0" in str(cells["path"]):
            raise DataError(f"{table}, row {number}: the path holds a zero byte, which no name can. Mend it.")
        path = Path(os.path.normpath(folder / str(cells["path"])))
        rows.append(ListRow(number, path, str(cells["label"]), cells["group"], cells["split"]))
    if not rows:
        raise DataError(f"{table}: the list has no rows. Write an image a row.")
    return rows


def columns_of_list(table: Path) -> list[str]:
    """Names of a list's columns; those of a TXT file are by place.

    Raises:
        DataError: the list cannot be read.
    """
    if table.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return [str(name) for name in pq.read_schema(table).names]
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{table}: not readable as parquet: {error}. Write it again.") from error
    text = _text_of(table)
    if table.suffix.lower() == ".txt":
        most = max((len(_txt_cells(line)) for line in text.split("\n") if line.strip()), default=2)
        return list(_TXT_COLUMNS[:most])
    try:
        return [cell.strip() for cell in next(_csv_reader(table, text), [])]
    except csv.Error as error:
        raise DataError(f"{table}, line 1: {error}. Mend the line.") from error


def root_of_list(table: Path, rows: list[ListRow]) -> Path:
    """The deepest folder that holds the list and all its images."""
    folder = os.path.abspath(table.parent)  # noqa: PTH100
    try:
        return Path(os.path.commonpath([folder, *(str(row.path.parent) for row in rows)]))
    except ValueError as error:  # two drives
        raise DataError(f"{table}: list and images lie on several drives. Put them on one.") from error


def list_rows(layout: ImageList, table: Path, root: Path) -> Iterator[ListedImage]:
    """Images of a user's own list, relative to ``root``.

    Raises:
        DataError: as :func:`read_list`; or an image outside ``root``, one listed twice, or a split that is
            neither train nor test.
    """
    class_of = {value: name for name, values in layout.values_of_class.items() for value in values}
    seen: dict[Path, int] = {}
    for row in read_list(layout, table):
        name = class_of.get(row.label) if class_of else row.label
        if name is None:
            continue
        if row.path in seen:
            raise DataError(
                f"{table}, row {row.number}: {row.path} already stands in row {seen[row.path]}. Keep one."
            )
        seen[row.path] = row.number
        if not row.path.is_relative_to(root):
            raise DataError(
                f"{table}, row {row.number}: {row.path} lies outside {root}. Give the list itself as data "
                "set, or layout.table as an absolute path; then its images may lie anywhere."
            )
        split = _SPLITS.get((row.split or "train").lower())
        if split is None:
            raise DataError(
                f"{table}, row {row.number}: split is '{row.split}'; write train or test. Rows for "
                "validation are training rows: the folds hold them out in turn."
            )
        yield ListedImage(row.path.relative_to(root).as_posix(), name, split, row.group)


def _rows_of(table: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and cells, as text, of each row; only the columns asked for."""
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
    text = _text_of(table)
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
        raise DataError(f"{table}, line {reader.line_num}: {error}. Mend the line.") from error


def _by_name(table: Path, number: int, columns: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(columns):
        raise DataError(
            f"{table}, line {number}: {len(cells)} cells but {len(columns)} columns ({', '.join(columns)}). "
            "Mend the line; a cell with a separator in it stands in quotes."
        )
    return dict(zip(columns, cells, strict=True))


def _parquet_rows(table: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(table) as file:
            for batch in file.iter_batches(columns=list(dict.fromkeys(columns))):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {key: "" if cell is None else str(cell) for key, cell in row.items()}
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{table}: not readable as parquet: {error}. Write it again.") from error


def _txt_cells(line: str) -> list[str]:
    """Cells of a TXT line: by tabs; without any, the label is what follows the last white space."""
    return line.strip("\r\n").split("\t") if "\t" in line else line.strip().rsplit(maxsplit=1)


def _csv_reader(table: Path, text: str) -> Any:
    separator = "\t" if table.suffix.lower() == ".tsv" else ","
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)


def _text_of(table: Path) -> str:
    try:
        # "utf-8-sig" drops the mark that spreadsheets put at the beginning of a file.
        return table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: not readable as UTF-8 text: {error}. Save it as UTF-8.") from error
