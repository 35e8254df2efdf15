"""A list of the user's own that names images and their labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator

from contracts.errors import DataError
from imagedata.file_names import is_image_name, is_junk
from imagedata.layouts.layout import BaseLayout, DataSet, Recognised, require_some_classes
from imagedata.layouts.listed_image import ListedImage, Split
from imagedata.layouts.lists.columns import columns_of_layout, is_index
from imagedata.layouts.lists.files import ListedFiles
from imagedata.layouts.lists.rows import ListColumns, ReadList, read_rows
from imagedata.layouts.lists.table import read_list, require_values
from imagedata.layouts.splits import joined_training, validation_as_test

LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
"""Endings of files that may be lists of images."""

_SHOWN_COLUMNS = 5


class ImageList(BaseLayout):
    """A list of one's own: a CSV, TSV, TXT or parquet file with one row per image.

    A CSV or TSV file begins with the names of its columns. A TXT file may have none: a line is then a path
    and a label, and where tabs, commas or semicolons separate them, a group and a split may follow. A path
    may lack its folder or its ending; see :class:`imagedata.layouts.lists.files.ListedFiles`.

    Attributes:
        kind: which layout this is.
        roots: folders below the data directory that may hold the list; the first that does is taken.
        table: file name of the list; an absolute one is taken as it is, and its images may lie anywhere.
        image_folder: folder, relative to the list, that paths are relative to and that images without a
            folder are looked for in; None for the folder of the list.
        path_column: column with the image path.
        label_column: column that decides the class; None where the list has no labels, and every image is of
            the first class.
        one_hot_columns: columns that are each a class, with a 1 in exactly one of them per row; they take the
            place of ``label_column``.
        group_column: column with the patient or lot; None leaves groups to the spec's ``group``.
        split_column: column that says ``train``, ``val`` or ``test``, or any other usual name of these; None
            draws the test rows. Validation rows join training, or are the test set where there is no other.
        values_of_class: class name → the labels that mean it; empty where labels are class names. Rows with
            other labels are left out.
        skip_bad_rows: leave out rows that contradict or repeat others, or name no file, instead of refusing
            the list.
    """

    kind: Literal["image_list"] = "image_list"
    table: str
    image_folder: str | None = None
    path_column: str = "path"
    label_column: str | None = "label"
    one_hot_columns: list[str] = Field(default_factory=list)
    group_column: str | None = None
    split_column: str | None = None
    values_of_class: dict[str, list[str]] = Field(default_factory=dict)
    skip_bad_rows: bool = False

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
        folder = str(_absolute(table.parent))
        folders = {str(row.path.parent) for row in self.read(table).rows}
        try:
            return Path(os.path.commonpath([folder, *folders]))
        except ValueError as error:  # two drives
            raise DataError(f"{table}: list and images lie on several drives. Put them on one.") from error

    def images(self, class_names: Sequence[str], root: Path) -> Iterator[ListedImage]:
        """One image per row.

        Raises:
            DataError: as :meth:`read`; or rows that cannot be used and are not to be skipped, or images
                outside ``root``. All such rows are counted.
        """
        table = root / self.table  # an absolute table stays as it is
        read = self.read(table)
        if read.faults and not self.skip_bad_rows:
            raise DataError(_refusal(table, read))
        outside = [row for row in read.rows if not row.path.is_relative_to(root)]
        if outside:
            raise DataError(
                f"{table}: images of {len(outside)} rows lie outside {root}; the first: row "
                f"{outside[0].number}: {outside[0].path}. Give the list itself as data set, or layout.table "
                "as an absolute path; then its images may lie anywhere."
            )
        # Beside test rows, those for validation are training rows: the folds take their place.
        validation: Split = "train" if any(row.split == "test" for row in read.rows) else "test"
        for row in read.rows:
            label = row.label if self.has_labels else class_names[0]
            if label in class_names:
                path = row.path.relative_to(root).as_posix()
                yield ListedImage(path, label, row.split or validation, row.group)

    def read(self, table: Path) -> ReadList:
        """Read the list, and find the files that its rows name.

        Raises:
            DataError: unreadable, without a row, or without a column that the layout names.
        """
        found = read_list(table)
        columns = self._columns()
        found.require_columns(table, columns.used)
        if not found.rows:
            raise DataError(f"{table}: the list has no rows. Write one row per image.")
        class_of = {value: name for name, values in self.values_of_class.items() for value in values}
        files = ListedFiles(_absolute(table.parent / (self.image_folder or "")))
        return read_rows(found, columns, files, class_of.get if class_of else lambda label: label)

    @property
    def has_labels(self) -> bool:
        """Whether a column, or several, tell the class."""
        return self.label_column is not None or bool(self.one_hot_columns)

    def _columns(self) -> ListColumns:
        return ListColumns(
            self.path_column,
            self.label_column,
            tuple(self.one_hot_columns),
            self.group_column,
            self.split_column,
        )

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
        """Every class has values, unless labels are class names; without labels there are two classes."""
        if not self.has_labels and len(classes) != 2:
            raise ValueError(f"a list without labels holds one of two classes, not of {list(classes)}")
        if self.values_of_class:
            require_values(self.values_of_class, classes)

    def may_lack_the_minority(self, data_set: DataSet, root: Path) -> bool:
        """Where every label that the list has is a class."""
        if not self.has_labels:
            return True
        return not self.values_of_class and set(self.read(root / self.table).labels) <= set(
            data_set.class_names
        )

    def reading_notes(self, data_set: DataSet, root: Path) -> list[str]:
        """How the columns were understood, which rows were skipped, and what became of validation rows."""
        del data_set
        table = root / self.table
        read = self.read(table)
        notes = [_as_read(table, read, self._columns())]
        if read.faults:
            notes.append(
                f"Rows of {table.name} that were skipped: {len(read.faults):,}. "
                f"{read.faults.by_kind(with_rows=False)}."
            )
        validation = sum(row.split is None for row in read.rows)
        if validation and any(row.split == "test" for row in read.rows):
            notes.append(joined_training(validation, f"column '{self.split_column}'"))
        elif validation:
            notes += validation_as_test("validation", f"the validation rows of {table.name}")
        return notes

    def unused_images(self, data_set: DataSet, root: Path) -> dict[str, int]:
        """Images beside those of the list that it does not name."""
        del data_set
        read = self.read(root / self.table)
        counts = {}
        for folder in sorted({path.parent for path in read.named}):
            count = sum(
                is_image_name(each.name) and not is_junk(each.name) and each not in read.named
                for each in folder.iterdir()
            )
            if count:
                counts[Path(os.path.relpath(folder, root)).as_posix()] = count
        return counts

    @classmethod
    def recognise(cls, place: Path, stated: Mapping[str, Any]) -> Recognised | None:
        """A file with a column of paths and a column, or one-hot columns, of labels under usual names.

        Paths alone, or with groups and splits, are images without labels. Beside any other column they are
        not, as it may hold the labels under another name.
        """
        if not place.is_file() or place.suffix.lower() not in LIST_SUFFIXES:
            return None
        found = read_list(place)
        layout = {
            "kind": "image_list",
            "table": str(place.absolute()),
            **columns_of_layout(found.columns, found.by_name(), stated),
        }
        if _has_no_labels(layout, found.columns, stated):
            layout["label_column"] = None
        known = {key: value for key, value in stated.items() if key in cls.model_fields}
        try:
            draft = cls.model_validate({**layout, **known})
        except ValidationError:  # a mistake of the user's, for which the whole spec has better words
            draft = cls.model_validate(layout)
        read = draft.read(place)
        if not draft.has_labels:
            return Recognised(layout, [], dict)
        if len(read.labels) < 2 and read.faults:
            raise DataError(_refusal(place, read))
        if len(read.labels) != 1:
            require_some_classes(place, read.labels)
        return Recognised(layout, sorted(read.labels), lambda: dict(sorted(read.labels.items())))


def _has_no_labels(layout: Mapping[str, Any], columns: Sequence[str], stated: Mapping[str, Any]) -> bool:
    """Whether the user says so, or nothing but paths, groups and splits is there."""
    if "label_column" in stated:
        return stated["label_column"] is None
    if "path_column" not in layout or {"label_column", "one_hot_columns"} & {*layout, *stated}:
        return False
    taken = {value for value in (*layout.values(), *stated.values()) if isinstance(value, str)}
    return all(column in taken or is_index(column) for column in columns)


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder))  # noqa: PTH100  # links stay as they are


def _refusal(table: Path, read: ReadList) -> str:
    return (
        f"{table}: {len(read.faults):,} of {len(read.table.rows):,} rows cannot be used. "
        f"{read.faults.by_kind(with_rows=True)}. Fix them, say in which folder the images are with "
        "-o layout.image_folder=FOLDER, or go on without these rows with --skip-bad-rows."
    )


def _as_read(table: Path, read: ReadList, columns: ListColumns) -> str:
    """The sentence that shows how a list was understood."""
    endings = " or ".join(sorted(read.files.endings))
    changes = [f"{endings} added"] if endings else []
    changes += ["found in folders below the list"] if read.files.moved else []
    parts = [f"paths from '{columns.path}'" + (f" ({', '.join(changes)})" if changes else "")]
    if columns.one_hot:
        parts.append(f"labels from one-hot columns {', '.join(columns.one_hot)}")
    else:
        parts.append(f"labels from '{columns.label}'" if columns.label else "no labels")
    parts += [f"groups from '{columns.group}'"] if columns.group else []
    parts += [f"splits from '{columns.split}'"] if columns.split else []
    unused = [f"'{name}'" for name in read.table.columns if name not in columns.used and not is_index(name)]
    if unused:
        more = ["…"] if len(unused) > _SHOWN_COLUMNS else []
        parts.append(f"not read: {', '.join([*unused[:_SHOWN_COLUMNS], *more])}")
    separator = f" separated by {read.table.separator}" if read.table.separator else ""
    return f"Read {table.name}: {len(read.table.rows):,} rows{separator}; {', '.join(parts)}."
