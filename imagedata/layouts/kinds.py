"""Where the images of a data set lie and what says their labels: one settings model a layout.

Nothing here touches a file; :mod:`imagedata.layouts.listing` does.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from contracts.errors import nearest_match
from imagedata.layouts.pack_formats import PackFormat


class Settings(BaseModel):
    """Base of every settings model: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassFolders(Settings):
    """One folder a class, searched recursively.

    Attributes:
        kind: which layout this is.
        roots: folders below the data directory that may hold the set; the first that exists is taken.
        train: path pattern below the root; ``{class}`` stands for the class folder. A part with ``*`` in it
            stands for every folder whose name it matches, as in ``*/{class}`` for a folder a patient.
        test: the same for the test images, or None when they are to be drawn from ``train``.
        folder_of_class: folder names where they differ from the class names.
        region_masks: path pattern of folders with a mask for each image, by the image's file name; what a
            mask leaves dark is made black in the image before anything else sees it (see
            :mod:`imagedata.layouts.regions`). None takes the images as they are.
    """

    kind: Literal["class_folders"] = "class_folders"
    roots: list[str] = ["."]
    train: str = "{class}"
    test: str | None = None
    folder_of_class: dict[str, str] = {}
    region_masks: str | None = None

    @field_validator("train", "test", "region_masks")
    @classmethod
    def _pattern_tells_classes_apart(cls, value: str | None) -> str | None:
        if value is not None and "{class}" not in value:
            raise ValueError("{class} must stand somewhere in it, in place of the class folder")
        return value

    @model_validator(mode="after")
    def _masks_have_one_place(self) -> Self:
        if self.region_masks is not None and ("*" in self.region_masks or "*" in self.train):
            raise ValueError("region_masks belong to one folder a class; leave * out of it and of train")
        if self.region_masks is not None and self.test is not None:
            raise ValueError("region_masks are those of the training folders; leave test out")
        return self


class AnomalyFolders(Settings):
    """MVTec's tree: normal images for training, normal ones and kinds of anomalies for testing.

    No anomaly lies among the training images, so that a supervised member would have nothing to learn
    from. A share of the labelled anomalies is therefore moved into training, kind by kind, drawn by a
    seeded hash of the files' bytes (:func:`imagedata.sampling.move_anomalies`); the others stay held out.

    Attributes:
        kind: which layout this is.
        roots: folders below the data directory that may be the category's; the first that exists is taken.
        train: folder of the training images; only its folder ``normal`` is read.
        test: folder of the test images; every folder in it but ``normal`` is a kind of anomaly.
        normal: name of the folders of normal images.
        masks: folder of the anomalies' masks, ``<masks>/<kind of anomaly>/<name>_mask.png`` or
            ``<name>.png``; kept in the manifest, for scores of localisation. A mask that is missing is
            no fault.
        moved_share: share of each kind of anomaly that is moved into training, rounded; 0 moves none.
        moved_count: number of anomalies that is moved instead, dealt out to the kinds by their sizes.
    """

    kind: Literal["anomaly_folders"] = "anomaly_folders"
    roots: list[str] = ["."]
    train: str = "train"
    test: str = "test"
    normal: str = "good"
    masks: str = "ground_truth"
    moved_share: float = Field(default=0.5, ge=0.0, lt=1.0)
    moved_count: int | None = Field(default=None, ge=0)


class LabelTable(Settings):
    """A text table of paths and labels, as some packages and competitions ship them.

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
            ``0.6..1`` with both ends in it; rows with other values are left out.
        subtype_column: column with a finer name than the class, which is recorded and decides nothing.
        group_column: column with the patient or lot; None leaves groups to the spec's ``group``.
    """

    kind: Literal["label_table"] = "label_table"
    package: str | None = None
    roots: list[str] = ["."]
    table: str
    columns: list[str]
    separator: Annotated[str, Field(min_length=1)] | None = None
    path_column: str = "path"
    path_pattern: str | None = None
    label_column: str
    values_of_class: dict[str, list[str]]
    subtype_column: str | None = None
    group_column: str | None = None

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

    def class_of(self, value: str) -> str | None:
        """The class that a label value means, or None where it means none."""
        for name, values in self.values_of_class.items():
            if any(values_overlap(value, each) for each in values):
                return name
        return None


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


class ImageList(Settings):
    """A list of one's own: a CSV, TSV, TXT or parquet file with a row an image.

    A CSV or TSV file begins with the names of its columns. A TXT file has none: a line is a path and a
    label, and where tabs part them, a group and a split may follow.

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
    roots: list[str] = ["."]
    table: str
    path_column: str = "path"
    label_column: str = "label"
    group_column: str | None = None
    split_column: str | None = None
    values_of_class: dict[str, list[str]] = {}

    @field_validator("table")
    @classmethod
    def _table_has_a_known_ending(cls, value: str) -> str:
        if not value.lower().endswith(LIST_SUFFIXES):
            raise ValueError(f"a list ends in one of {', '.join(LIST_SUFFIXES)}")
        return value


LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
"""Endings of files that may be lists of images."""


class Packed(Settings):
    """Many images in one file, as MNIST, CIFAR-10 and SVHN come; see :mod:`imagedata.layouts.packed`.

    Attributes:
        kind: which layout this is.
        format: ``idx`` (MNIST and its relatives, also gzipped), ``cifar`` (pickled batches) or ``svhn``
            (MATLAB files of cropped digits).
        roots: folders below the data directory that may hold the files; an absolute one is taken as it is.
        train: file names of the training images; for ``idx`` the images and then the labels.
        test: the same of the test images, or None when they are to be drawn from ``train``.
        label_of_class: class name → its label value in the files; others are left out.
    """

    kind: Literal["packed"] = "packed"
    format: PackFormat
    roots: list[str] = ["."]
    train: Annotated[list[str], Field(min_length=1)]
    test: Annotated[list[str], Field(min_length=1)] | None = None
    label_of_class: dict[str, Annotated[int, Field(ge=0, le=255)]]

    @model_validator(mode="after")
    def _idx_comes_in_pairs_and_labels_are_one_class_each(self) -> Self:
        for key in ("train", "test"):
            files = getattr(self, key)
            if self.format == "idx" and files is not None and len(files) != 2:
                raise ValueError(f"{key} names {len(files)} files; idx has two, images and then labels")
        if len(set(self.label_of_class.values())) != len(self.label_of_class):
            raise ValueError(f"label_of_class gives two classes one label: {self.label_of_class}")
        for name in self.label_of_class:
            require_folder_name(name)
        return self


def require_folder_name(name: str) -> None:
    """Refuse a class name that cannot be the folder that its images are written to."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", name):
        raise ValueError(f"class '{name}' cannot name a folder; use letters, digits, space, . _ -")


class HubSource(Settings):
    """A data set on Hugging Face's hub, or on another one of its kind.

    Attributes:
        name: ``owner/name``.
        revision: branch, tag or commit. A branch moves; only a commit gives the same images again.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")
    revision: str = Field(default="main", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")


class Shards(Settings):
    """Encoded images in a few files: parquet as Hugging Face's hub has it, or webdataset's tar files.

    The images are written out below the runs' folder, byte for byte, under names of our own; no name in a
    shard ever becomes a path. See :mod:`imagedata.layouts.shards`.

    Attributes:
        kind: which layout this is.
        format: ``parquet`` (a column of encoded images and one of labels) or ``webdataset`` (tar files in
            which members of equal names, up to the first dot, are one sample).
        roots: folders below the data directory that may hold the shards.
        hub: data set on Hugging Face's hub that holds the shards, in place of ``roots``; they are fetched
            into the hub's cache once (see :mod:`imagedata.hub`).
        train: file names or patterns with ``*``, below the root, of the training images.
        test: the same of the test images, or None when they are to be drawn from ``train``.
        image: parquet: the column of images, of bytes or of Hugging Face's bytes and path; ``image`` where it
            is None. webdataset: ending of the image's member; any ending of an image where it is None.
        label: parquet: the column of labels, ``label`` where it is None; webdataset: ending of the member
            that holds the label as text, ``cls`` where it is None.
        group: column or ending of the patient or lot; None leaves groups to the spec's ``group``.
        label_of_class: class name → its label as it is written in the shards; others are left out.
    """

    kind: Literal["shards"] = "shards"
    format: Literal["parquet", "webdataset"]
    roots: list[str] = ["."]
    hub: HubSource | None = None
    train: Annotated[list[str], Field(min_length=1)]
    test: Annotated[list[str], Field(min_length=1)] | None = None
    image: str | None = None
    label: str | None = None
    group: str | None = None
    label_of_class: dict[str, str | int]

    @model_validator(mode="after")
    def _labels_are_one_class_each(self) -> Self:
        values = [str(value) for value in self.label_of_class.values()]
        if len(set(values)) != len(values):
            raise ValueError(f"label_of_class gives two classes one label: {self.label_of_class}")
        for name in self.label_of_class:
            require_folder_name(name)
        return self

    @model_validator(mode="after")
    def _shards_lie_in_one_place(self) -> Self:
        if self.hub is not None and "roots" in self.model_fields_set:
            raise ValueError(f"hub {self.hub.name} and roots {self.roots} say twice where it lies; give one")
        return self


Layout = Annotated[
    ClassFolders | AnomalyFolders | LabelTable | ImageList | Packed | Shards, Field(discriminator="kind")
]
