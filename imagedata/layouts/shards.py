"""Encoded images in parquet or webdataset shards: listed, and written out as files.

Names in a shard are never used as paths: an image is called by its split, its class and its place. What
its owner calls it is checked nevertheless, and a shard with a name that leads out of a folder, a link, or a
content far larger than its file is refused: whoever made it meant harm.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from contracts.errors import DataError
from contracts.files import digest_of
from imagedata.file_names import is_junk
from imagedata.hub import HubSource, fetched
from imagedata.inspection import Inspection
from imagedata.layouts.image_containers import ImageContainers
from imagedata.layouts.layout import DataSet, Recognised, require_some_classes
from imagedata.layouts.listed_image import ListedImage
from imagedata.layouts.materialiser import LookAt, Materialiser, Progress, digests_of, write_where_missing
from imagedata.layouts.shard_samples import (
    Sample,
    is_zip_shard,
    parquet_class_names,
    parquet_labels,
    parquet_samples,
    tar_samples,
)
from imagedata.layouts.walk import matching_paths
from imagedata.manifest_row import ManifestRow

SHARD_SUFFIXES = (".parquet", ".tar", ".tar.gz", ".tgz")
"""Endings of shards: parquet's, and webdataset's. Zip archives are taken for shards by content only."""

_SIGNATURES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)


class Shards(ImageContainers):
    """Encoded images in a few files: parquet as Hugging Face's hub has it, or webdataset's tar files.

    The images are written out below the runs' folder, byte for byte, under names of our own; no name in a
    shard ever becomes a path.

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
    hub: HubSource | None = None
    image: str | None = None
    label: str | None = None
    group: str | None = None
    label_of_class: dict[str, str | int]

    @model_validator(mode="after")
    def _shards_lie_in_one_place(self) -> Self:
        if self.hub is not None and "roots" in self.model_fields_set:
            raise ValueError(
                f"hub {self.hub.name} and roots {self.roots} both say where the shards lie; give one"
            )
        return self

    def find(self, data_set: DataSet, data_dir: Path | None, *, fetch: bool = True) -> Path:
        """The folder of the shards: in the hub's cache, or below the data directory."""
        if self.hub is None:
            return super().find(data_set, data_dir, fetch=fetch)
        needed = self.needed_paths(data_set.class_names)
        root = fetched(data_set.name, self.hub, tuple(needed), fetch=fetch)
        missing = [path for path in needed if not self.holds(root, path)]
        if missing:
            raise DataError(
                f"{data_set.name}: {self.hub.name} at revision {self.hub.revision} on the hub has no "
                f"{', '.join(missing)}. Look at its files there, and name them in layout.train and "
                "layout.test."
            )
        return root

    def images(self, class_names: Sequence[str], root: Path) -> Iterator[ListedImage]:
        """Images by the paths that they have once written out.

        Raises:
            DataError: a shard is damaged, hostile, or lacks what the layout names.
        """
        return (image for image, _ in self.images_with_bytes(root) if image.label in class_names)

    def images_with_bytes(self, root: Path) -> Iterator[tuple[ListedImage, bytes]]:
        """Every image with a label that the layout knows, and its encoded bytes."""
        class_of = {str(label): name for name, label in self.label_of_class.items()}
        for split in self.splits:
            place = 0
            for file in self.files(root, split):
                for sample in self.samples_of(file):
                    name = class_of.get(sample.label)
                    if name is not None:
                        path = f"{split}/{name}/{place:07d}{_suffix(sample.data)}"
                        yield ListedImage(path, name, split, sample.group), sample.data
                    place += 1

    def files_of(self, root: Path, name: str) -> list[Path]:
        """The files that a pattern stands for, sorted by name."""
        return [path for path in matching_paths(root, name) if path.is_file()]

    def samples_of(self, file: Path) -> Iterator[Sample]:
        """Images with their labels of one shard, in its order."""
        if self.format == "parquet":
            return parquet_samples(file, self.image or "image", self.label or "label", self.group)
        return tar_samples(file, self.image, self.label or "cls", self.group)

    @property
    def groups_column(self) -> str | None:
        """The column of groups."""
        return self.group

    @property
    def names_its_place(self) -> bool:
        """A set of the hub is found without a data directory."""
        return self.hub is not None

    def materialiser(self, data_set: DataSet, source: Path, below: Path) -> Materialiser:
        """Writes the images out of the shards."""
        return WrittenShards(self, data_set.name, source, below)

    def shown_path(self, path: str) -> str:
        """A shard, on the hub or below the data directory."""
        return super().shown_path(path) if self.hub is None else f"{self.hub.name} on the hub: {path}"

    @classmethod
    def recognise(cls, place: Path, stated: Mapping[str, Any]) -> Recognised | None:
        """A folder that holds shards, or whose folder ``data`` does, whatever else lies there.

        Raises:
            DataError: they hold fewer than two classes, or one is damaged.
        """
        del stated
        layout = _layout_of_folder(place) if place.is_dir() else None
        if layout is None:
            return None
        draft = cls(**layout, label_of_class={})
        counts: Counter[str] = Counter()
        named: list[str] = []
        for file in draft.files(place, "train"):
            if draft.format == "parquet":
                counts.update(parquet_labels(file, "label"))
                named = named or parquet_class_names(file, "label")
            else:
                counts.update(sample.label for sample in draft.samples_of(file))
        require_some_classes(place, counts)
        label_of_class: dict[str, str | int] = {}
        for label in sorted(counts, key=_numbers_first):
            name = named[int(label)] if label.isdecimal() and int(label) < len(named) else label
            label_of_class[re.sub(r"[^A-Za-z0-9 ._-]+", "_", name).strip("._- ") or f"class_{label}"] = label
        return Recognised(
            {**layout, "label_of_class": label_of_class},
            list(label_of_class),
            lambda: {name: counts[str(label)] for name, label in label_of_class.items()},
        )


class WrittenShards(Materialiser):
    """Images of shards, written out as files into a folder named by the shards' content.

    Args:
        layout: of the data set.
        name: of the data set.
        source: folder of the shards.
        below: folder for files of our own.
    """

    def __init__(self, layout: Shards, name: str, source: Path, below: Path) -> None:
        self._layout, self._source = layout, source
        contents = [digests_of(layout.files(source, split)) for split in layout.splits]
        reading = [layout.format, layout.image, layout.label, layout.group, layout.label_of_class]
        super().__init__(below / "unpacked" / f"{name}-{digest_of([contents, reading])}")

    def inspect(
        self, listed: Sequence[ListedImage], look_at: LookAt, progress: Progress
    ) -> dict[str, Inspection]:
        """Write the images first; then look at the files."""
        with progress(f"writing {len(listed)} images out of shards", len(listed)) as bar:
            self.write_images(bar.advance)
        return super().inspect(listed, look_at, progress)

    def sources(self, rows: Sequence[ManifestRow]) -> None:
        """Images of shards are no files of the user's."""
        del rows

    def write_images(self, on_image: Callable[[], None] = lambda: None) -> int:
        """Write the images that are missing, byte for byte; those there and whole stay.

        Returns:
            The number of files written.
        """
        written = 0
        for image, data in self._layout.images_with_bytes(self._source):
            written += write_where_missing(self.root / image.path, data)
            on_image()
        return written


def _layout_of_folder(folder: Path) -> dict[str, Any] | None:
    """Layout of the shards in a folder or its folder ``data``, or None where there are none."""
    for below in ("", "data/"):
        place = folder / below
        files = sorted(path.name for path in place.iterdir() if path.is_file()) if place.is_dir() else []
        for kind, endings in (("parquet", SHARD_SUFFIXES[:1]), ("webdataset", SHARD_SUFFIXES[1:])):
            mine = [name for name in files if name.endswith(endings) and not is_junk(name)]
            if kind == "webdataset":
                mine += [name for name in files if name.endswith(".zip") and is_zip_shard(place / name)]
            if not mine:
                continue
            train = [f"{below}{name}" for name in mine if name.lower().startswith("train")]
            # Where there are both, validation shards stay unused: nothing is tuned on a second test set.
            test = [f"{below}{name}" for name in mine if name.startswith("test")]
            test = test or [f"{below}{name}" for name in mine if name.startswith("val")]
            return {
                "kind": "shards",
                "format": kind,
                "train": train or [f"{below}{name}" for name in mine],
                "test": test if train and test else None,
            }
    return None


def _numbers_first(label: str) -> tuple[bool, int, str]:
    return (not label.isdecimal(), int(label) if label.isdecimal() else 0, label)


def _suffix(data: bytes) -> str:
    """The ending that fits an image's first bytes; ``.img`` where none is known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for start, suffix in _SIGNATURES if data.startswith(start)), ".img")
