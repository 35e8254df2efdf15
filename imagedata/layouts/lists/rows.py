"""The rows of a user's list: those that can be used, and what is wrong with each of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagedata.layouts.listed_image import Split
from imagedata.layouts.lists.columns import label_of_one_hot
from imagedata.layouts.lists.files import ListedFiles
from imagedata.layouts.lists.table import ListTable
from imagedata.layouts.splits import TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES

_SHOWN_ROWS = 3


@dataclass(frozen=True)
class ListRow:
    """One row of a user's own list that can be used.

    Attributes:
        number: line of a text file, or row of a parquet file, from 1.
        path: absolute, with ``..`` resolved; links stay as they are.
        label: class name; empty where the list has no labels.
        group: as written, None without such a column.
        split: by any of its usual names; ``train`` without such a column, None for validation.
    """

    number: int
    path: Path
    label: str
    group: str | None
    split: Split | None

    @property
    def facts(self) -> tuple[str, str | None, Split | None]:
        """What rows of the same image must agree in."""
        return self.label, self.group, self.split


class RowFaults:
    """What is wrong with rows, by kind of fault."""

    def __init__(self) -> None:
        self._of_kind: dict[str, list[str]] = {}

    def add(self, kind: str, number: int, what: str) -> None:
        """Record a row; ``what`` shows it."""
        self._of_kind.setdefault(kind, []).append(f"row {number}: {what}" if what else f"row {number}")

    def __len__(self) -> int:
        """Number of rows."""
        return sum(map(len, self._of_kind.values()))

    def by_kind(self, *, with_rows: bool) -> str:
        """Each kind with its number of rows and, if asked for, the first of them."""
        return "; ".join(
            f"{kind}: {len(rows):,}" + (f" ({_first(rows)})" if with_rows else "")
            for kind, rows in self._of_kind.items()
        )


def _first(rows: Sequence[str]) -> str:
    return ", ".join([*rows[:_SHOWN_ROWS], *(["…"] if len(rows) > _SHOWN_ROWS else [])])


@dataclass(frozen=True)
class ListColumns:
    """Where the facts of a row stand.

    Attributes:
        path: column with the path.
        label: column with the label; not read where there are one-hot columns. None where rows have none.
        one_hot: columns that are each a class, of which exactly one holds a 1.
        group: column with the patient or lot.
        split: column with the split.
    """

    path: str
    label: str | None
    one_hot: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None

    @property
    def used(self) -> list[str]:
        """All of them that there are."""
        labels = self.one_hot or ([self.label] if self.label else [])
        return [self.path, *labels, *filter(None, (self.group, self.split))]


@dataclass
class ReadList:
    """A list as it was read.

    Attributes:
        table: what was read.
        files: the files that were found.
        rows: those that can be used, one per image.
        faults: the others.
        labels: label → number of rows, whether they can be used or not.
        named: every file that a row names.
    """

    table: ListTable
    files: ListedFiles
    rows: list[ListRow] = field(default_factory=list)
    faults: RowFaults = field(default_factory=RowFaults)
    labels: Counter[str] = field(default_factory=Counter)
    named: set[Path] = field(default_factory=set)


def read_rows(
    table: ListTable, columns: ListColumns, files: ListedFiles, class_of: Callable[[str], str | None]
) -> ReadList:
    """Judge every row of a list.

    Args:
        table: the list; it has the columns.
        columns: where to look.
        files: finds the files.
        class_of: label → class, or None for rows to leave out.
    """
    read = ReadList(table, files)
    place_of = {name: place for place, name in reversed(list(enumerate(table.columns)))}
    rows_of_file: dict[Path, list[ListRow]] = {}
    for number, cells in table.rows:
        try:
            if len(cells) != len(table.columns):
                raise _BadRowError("other number of cells than columns", f"{len(cells)} cells")
            by_name = {name: cells[place_of[name]].strip() for name in columns.used}
            row = _judged(read, number, by_name, columns, class_of)
        except _BadRowError as fault:
            read.faults.add(fault.kind, number, fault.what)
            continue
        if row is not None:
            rows_of_file.setdefault(row.path, []).append(row)
    for rows in rows_of_file.values():
        read.rows += _agreed(rows, read.faults)
    read.rows.sort(key=lambda row: row.number)
    return read


class _BadRowError(Exception):
    """A row cannot be used; ``kind`` of fault, and ``what`` shows the row."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(kind, what)
        self.kind, self.what = kind, what


def _judged(
    read: ReadList,
    number: int,
    cells: dict[str, str],
    columns: ListColumns,
    class_of: Callable[[str], str | None],
) -> ListRow | None:
    """The row, or None where its label is of no class.

    Raises:
        _BadRowError: it cannot be used.
    """
    path = cells[columns.path]
    if columns.one_hot:
        written = _one_hot_label(path, cells, columns.one_hot)
    else:
        written = cells[columns.label] if columns.label else ""
    label = class_of(written) if written else ""
    if label is None:
        return None
    if label:
        read.labels[label] += 1
    empty = [name for name in columns.used if not cells[name]]
    if empty:
        raise _BadRowError("empty cell", f"column {empty[0]}")
    if "\0" in path:
        raise _BadRowError("zero byte in the path", path.replace("\0", "?"))
    split = _split_of(cells[columns.split]) if columns.split else "train"
    found = read.files.find(path)
    read.named.update(found)
    if not found:
        raise _BadRowError("no such file", path)
    if len(found) > 1:
        both = " or ".join(each.relative_to(read.files.base).as_posix() for each in found[:2])
        raise _BadRowError("fits several files", f"{path} may be {both}")
    return ListRow(number, found[0], label, cells[columns.group] if columns.group else None, split)


def _one_hot_label(path: str, cells: dict[str, str], columns: Sequence[str]) -> str:
    position = label_of_one_hot([cells[name] for name in columns])
    if position is None:
        raise _BadRowError("not exactly one label", path)
    return columns[position]


def _split_of(word: str) -> Split | None:
    """The split that a cell means; None for validation."""
    if word.lower() in VALIDATION_NAMES:
        return None
    if word.lower() not in {*TRAIN_NAMES, *TEST_NAMES}:
        raise _BadRowError("split is neither train, val nor test", f"'{word}'")
    return "train" if word.lower() in TRAIN_NAMES else "test"


def _agreed(rows: Sequence[ListRow], faults: RowFaults) -> list[ListRow]:
    """The first of the rows of one file, or none where they contradict each other."""
    first, *others = rows
    if all(other.facts == first.facts for other in others):
        for other in others:
            faults.add("repeats another row", other.number, f"{other.path.name} as in row {first.number}")
        return [first]
    for row in rows:  # none of them can be trusted
        other = next(each for each in rows if each.facts != row.facts)
        faults.add("contradicts another row", row.number, _difference(row, other))
    return []


def _difference(row: ListRow, other: ListRow) -> str:
    """The first fact in which two rows of a file differ, in words."""
    pairs = zip(row.facts, other.facts, strict=True)
    mine, theirs = next(pair for pair in pairs if pair[0] != pair[1])
    return f"{row.path.name} is {mine or 'validation'}, but {theirs or 'validation'} in row {other.number}"
