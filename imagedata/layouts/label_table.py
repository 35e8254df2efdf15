"""A table of paths and labels that comes with a data set, as some packages and competitions ship it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from contracts.errors import DataError, nearest_match
from imagedata.layouts.layout import BaseLayout, DataSet
from imagedata.layouts.listed_image import ListedImage, Split
from imagedata.layouts.lists.table import require_values, text_of


class LabelTable(BaseLayout):
    """A text table without a header that came with a data set.

    Attributes:
        kind: which layout this is.
        package: importable package that carries the files; None means the data directory.
        roots: folders below the package or data directory that may hold the table.
        table: file name of the table.
        columns: column names in order; separated by white space, or by ``separator``.
        separator: None for any white space.
        path_column: column with the image path, relative to the table.
        path_pattern: path of each line's image where the table has no column of paths; ``{line}`` stands
            for the number of the line, from 1.
        label_column: column that decides the class.
        values_of_class: class name → the label values that mean it, or ranges of numbers, written
            ``0.6..1`` with both ends included; rows with other values are left out.
        subtype_column: column with a finer name than the class, which is recorded and decides nothing.
        group_column: column with the patient or lot; None leaves groups to the spec's ``group``.
    """

    kind: Literal["label_table"] = "label_table"
    package: str | None = None
    table: str
    columns: list[str]
    separator: Annotated[str, Field(min_length=1)] | None = None
    path_column: str = "path"
    path_pattern: str | None = None
    label_column: str
    values_of_class: dict[str, list[str]]
    subtype_column: str | None = None
    group_column: str | None = None

    is_table: ClassVar[bool] = True

    @field_validator("path_pattern")
    @classmethod
    def _pattern_tells_lines_apart(cls, value: str | None) -> str | None:
        if value is not None and "{line}" not in value:
            raise ValueError("{line} must stand somewhere in it, in place of the line's number")
        return value

    @model_validator(mode="after")
    def _columns_exist_and_values_are_one_class_each(self) -> Self:
        keys = ["label_column", "subtype_column", "group_column"]
        for key in keys if self.path_pattern is not None else ["path_column", *keys]:
            column = getattr(self, key)
            if column is not None and column not in self.columns:
                hint = nearest_match(column, self.columns)
                raise ValueError(f"{key} '{column}' is none of the columns {self.columns}.{hint}")
        owners = [(name, value) for name, values in self.values_of_class.items() for value in values]
        for position, (name, value) in enumerate(owners):
            for other, another in owners[:position]:
                if name != other and values_overlap(value, another):
                    both = (
                        f"value '{value}'" if value == another else f"'{value}' and '{another}' overlap; it"
                    )
                    raise ValueError(f"{both} means both {other} and {name}")
        return self

    def needed_paths(self, class_names: Sequence[str]) -> list[str]:
        """The table."""
        del class_names
        return [self.table]

    def find(self, data_set: DataSet, data_dir: Path | None, *, fetch: bool = True) -> Path:
        """The folder with the table: below the data directory, or below the package that carries it."""
        return super().find(data_set, self._package_folder(data_set) or data_dir, fetch=fetch)

    def images(self, class_names: Sequence[str], root: Path) -> Iterator[ListedImage]:
        """One image per line.

        Raises:
            DataError: the table is not UTF-8 text, a line has other cells than columns, or a path leads out
                of ``root``.
        """
        table = root / self.table
        for number, line in enumerate(text_of(table).splitlines(), start=1):
            if not line.strip():
                continue
            cells = [cell.strip() for cell in line.split(self.separator)]
            if len(cells) != len(self.columns):
                raise DataError(
                    f"{table}, line {number}: {len(cells)} cells but {len(self.columns)} columns "
                    f"({', '.join(self.columns)}). Fix the line or name the columns in the spec."
                )
            row = dict(zip(self.columns, cells, strict=True))
            name = self.class_of(row[self.label_column])
            if name is None:
                continue
            path = table.parent / (
                row[self.path_column]
                if self.path_pattern is None
                else self.path_pattern.replace("{line}", str(number))
            )
            if not path.is_relative_to(root):
                raise DataError(
                    f"{table}, line {number}: {path} lies outside {root}. Give paths relative to the table."
                )
            group = row[self.group_column] if self.group_column else None
            if group == "":
                raise DataError(f"{table}, line {number}: column {self.group_column} is empty. Fill it in.")
            subtype = row[self.subtype_column] if self.subtype_column else None
            if name in class_names:
                yield ListedImage(path.relative_to(root).as_posix(), name, "train", group, subtype)

    def places(self, class_name: str, splits: set[Split]) -> list[tuple[Split, str]]:
        """The table."""
        del class_name, splits
        return [("train", self.table)]

    @property
    def groups_column(self) -> str | None:
        """The column of groups."""
        return self.group_column

    @property
    def names_its_place(self) -> bool:
        """A package is found without a data directory."""
        return self.package is not None

    def require_classes(self, classes: Sequence[str]) -> None:
        """Every class has values."""
        require_values(self.values_of_class, classes)

    def class_of(self, value: str) -> str | None:
        """The class that a label value means, or None where it means none."""
        for name, values in self.values_of_class.items():
            if any(values_overlap(value, each) for each in values):
                return name
        return None

    def _package_folder(self, data_set: DataSet) -> Path | None:
        """Folder of the package; None where the layout names none."""
        if not self.package:
            return None
        try:
            found = importlib.util.find_spec(self.package)
        except (ImportError, ValueError):  # a.b where a is missing, or no name at all
            found = None
        if found is None or not found.submodule_search_locations:
            raise DataError(
                f"{data_set.name}: the package '{self.package}' is not installed. Get it with: "
                f"{data_set.source}; expected:\n{self.expected_tree(data_set)}"
            )
        return Path(next(iter(found.submodule_search_locations)))


def values_overlap(first: str, second: str) -> bool:
    """Whether two label values, either of which may be a range ``low..high`` of numbers, share a value."""
    if first == second:
        return True
    if ".." not in first and ".." not in second:
        return False
    one, other = _interval(first), _interval(second)
    return one is not None and other is not None and one[0] <= other[1] and other[0] <= one[1]


def _interval(value: str) -> tuple[float, float] | None:
    """The numbers that a value or range covers; None where it is no number."""
    low, dots, high = value.partition("..")
    try:
        bounds = (float(low), float(high if dots else low))
    except ValueError:
        return None
    return bounds if bounds[0] <= bounds[1] else None
