"""A list of the user's own that names images and their labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from contracts.errors import DataError
from imagedata.layouts.layout import BaseLayout, DataSet, Recognised, require_some_classes
from imagedata.layouts.listed_image import ListedImage, Split
from imagedata.layouts.table_files import columns_of_list, require_values, rows_of_list

LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
"""Endings of files that may be lists of images."""

_SPLITS: dict[str, Split] = {"train": "train", "training": "train", "test": "test", "testing": "test"}


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


class ImageList(BaseLayout):
    """A list of one's own: a CSV, TSV, TXT or parquet file with one row per image.

    A CSV or TSV file begins with the names of its columns. A TXT file has none: a line is a path and a
    label, and where tabs separate them, a group and a split may follow.

    Attributes:
        kind: which layout this is.
        roots: folders below the data directory that may hold the list; the first that does is taken.
        table: file name of the list; an absolute one is taken as it is, and its images may lie anywhere.
        path_column: column with the image path, absolute or relative to the list.
        label_column: column that decides the class.
        group_column: column with the patient or lot; None leaves groups to the spec's ``group``.
        split_column: column that says ``train`` or ``test``; None draws the test rows.
        values_of_class: class name → the labels that mean it; empty where labels are class names. Rows with
            other labels are left out.
    """

    kind: Literal["image_list"] = "image_list"
    table: str
    path_column: str = "path"
    label_column: str = "label"
    group_column: str | None = None
    split_column: str | None = None
    values_of_class: dict[str, list[str]] = Field(default_factory=dict)

    is_table: ClassVar[bool] = True
    test_setting: ClassVar[str | None] = "split_column"

    @field_validator("table")
    @classmethod
    def _table_has_a_known_ending(cls, value: str) -> str:
        if not value.lower().endswith(LIST_SUFFIXES):
            raise ValueError(f"a list ends in one of {', '.join(LIST_SUFFIXES)}")
        return value

    def needed_paths(self, class_names: Sequence[str]) -> list[str]:
        """The list."""
        del class_names
        return [self.table]

    def find(self, data_set: DataSet, data_dir: Path | None, *, fetch: bool = True) -> Path:
        """The folder of a list; of an absolute one, the deepest folder that holds it and all its images."""
        table = Path(self.table)
        if not table.is_absolute():
            return super().find(data_set, data_dir, fetch=fetch)
        if not table.is_file():
            raise DataError(f"{data_set.name}: the list {table} is gone. Put it back, or name another.")
        folder = os.path.abspath(table.parent)  # noqa: PTH100  # links stay as they are
        try:
            return Path(os.path.commonpath([folder, *(str(row.path.parent) for row in self.rows(table))]))
        except ValueError as error:  # two drives
            raise DataError(f"{table}: list and images lie on several drives. Put them on one.") from error

    def images(self, class_names: Sequence[str], root: Path) -> Iterator[ListedImage]:
        """One image per row.

        Raises:
            DataError: as :meth:`rows`; or an image outside ``root``, one listed twice, or a split that is
                neither train nor test.
        """
        table = root / self.table  # an absolute table stays as it is
        class_of = {value: name for name, values in self.values_of_class.items() for value in values}
        seen: dict[Path, int] = {}
        for row in self.rows(table):
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
                    f"{table}, row {row.number}: {row.path} lies outside {root}. Give the list itself as "
                    "data set, or layout.table as an absolute path; then its images may lie anywhere."
                )
            split = _SPLITS.get((row.split or "train").lower())
            if split is None:
                raise DataError(
                    f"{table}, row {row.number}: split is '{row.split}'; write train or test. Rows for "
                    "validation are training rows: the folds hold them out in turn."
                )
            if name in class_names:
                yield ListedImage(row.path.relative_to(root).as_posix(), name, split, row.group)

    def rows(self, table: Path) -> list[ListRow]:
        """Read the list.

        Raises:
            DataError: unreadable, without a column that the layout names, or with an empty cell in one.
        """
        wanted = {
            "path": self.path_column,
            "label": self.label_column,
            "group": self.group_column,
            "split": self.split_column,
        }
        folder = Path(os.path.abspath(table.parent))  # noqa: PTH100  # links stay as they are
        rows = []
        for number, row in rows_of_list(table, [column for column in wanted.values() if column is not None]):
            cells = {key: row[column].strip() if column else None for key, column in wanted.items()}
            empty = [wanted[key] for key, cell in cells.items() if cell == ""]
            if empty:
                raise DataError(f"{table}, row {number}: column {empty[0]} is empty. Fill it in.")
            if "\0" in str(cells["path"]):
                raise DataError(f"{table}, row {number}: the path holds a zero byte. Fix it.")
            path = Path(os.path.normpath(folder / str(cells["path"])))
            rows.append(ListRow(number, path, str(cells["label"]), cells["group"], cells["split"]))
        if not rows:
            raise DataError(f"{table}: the list has no rows. Write one row per image.")
        return rows

    def places(self, class_name: str, splits: set[Split]) -> list[tuple[Split, str]]:
        """The list, for the test split only where it has test rows."""
        del class_name
        train: list[tuple[Split, str]] = [("train", self.table)]
        return [*train, ("test", self.table)] if "test" in splits else train

    @property
    def groups_column(self) -> str | None:
        """The column of groups."""
        return self.group_column

    @property
    def own_test(self) -> str | None:
        """The test rows."""
        return self.split_column and f"rows that column {self.split_column} calls test"

    @property
    def names_its_place(self) -> bool:
        """An absolute list is found without a data directory."""
        return Path(self.table).is_absolute()

    def require_classes(self, classes: Sequence[str]) -> None:
        """Every class has values, unless labels are class names."""
        if self.values_of_class:
            require_values(self.values_of_class, classes)

    @classmethod
    def recognise(cls, place: Path) -> Recognised | None:
        """A file with columns ``path`` and ``label`` and, where they are there, ``group`` and ``split``."""
        if not place.is_file() or place.suffix.lower() not in LIST_SUFFIXES:
            return None
        layout: dict[str, Any] = {"kind": "image_list", "table": str(place.absolute())}
        columns = columns_of_list(place)
        for key in ("group", "split"):
            if key in columns:
                layout[f"{key}_column"] = key
        counts = Counter(row.label for row in cls(**layout).rows(place))
        require_some_classes(place, counts)
        return Recognised(layout, sorted(counts), lambda: dict(sorted(counts.items())))
