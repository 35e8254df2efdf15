"""Data sets whose images come packed into a few files, as MNIST's: listed, inspected and unpacked.

The pack is read in memory; each image is encoded as a PNG file, whose digest decides by the usual rules which
images the run takes. Only those are written, and from there everything works on files
(docs/decisions/0007-packed-data-sets.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from contracts.files import digest_of
from contracts.rows import LabelArray
from imagedata.decoding.stored_png import encode_png
from imagedata.inspection import Inspection
from imagedata.layouts.image_containers import ImageContainers
from imagedata.layouts.layout import DataSet
from imagedata.layouts.listed_image import ListedImage, Split
from imagedata.layouts.materialiser import (
    LookAt,
    Materialiser,
    Progress,
    digests_of,
    is_whole,
    write_by_rename,
)
from imagedata.layouts.pack_formats import PackFormat, PixelArray, read_images, read_labels
from imagedata.manifest_row import ManifestRow


class Packed(ImageContainers):
    """Many images in one file, as MNIST, CIFAR-10 and SVHN come.

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
    label_of_class: dict[str, Annotated[int, Field(ge=0, le=255)]]

    @model_validator(mode="after")
    def _idx_comes_in_pairs(self) -> Self:
        for key in ("train", "test"):
            files = getattr(self, key)
            if self.format == "idx" and files is not None and len(files) != 2:
                raise ValueError(f"{key} names {len(files)} files; idx has two, images and then labels")
        return self

    def files_of(self, root: Path, name: str) -> list[Path]:
        """The file or its ``.gz``."""
        return [path for path in (root / name, root / f"{name}.gz") if path.is_file()][:1]

    def holds(self, root: Path, path: str) -> bool:
        """Whether the file or its ``.gz`` exists."""
        return bool(self.files_of(root, path))

    def images(self, class_names: Sequence[str], root: Path) -> Iterator[ListedImage]:
        """Images by the paths that they have once unpacked."""
        for split in self.splits:
            labels = read_labels(self.format, self.files(root, split))
            for name in class_names:
                for index in np.flatnonzero(labels == self.label_of_class[name]):
                    yield ListedImage(f"{split}/{name}/{index:06d}.png", name, split)

    def pixels(self, root: Path, split: Split) -> tuple[PixelArray, LabelArray]:
        """``[N, H, W]`` or ``[N, H, W, 3]`` pixels and ``[N]`` label values, in the pack's order."""
        return read_images(self.format, self.files(root, split))

    def materialiser(self, data_set: DataSet, source: Path, below: Path) -> Materialiser:
        """Unpacks the images that the run takes."""
        return UnpackedImages(self, data_set.name, source, below)

    def shown_path(self, path: str) -> str:
        """A file of the pack."""
        return f"{super().shown_path(path)}{' (or .gz)' if self.format == 'idx' else ''}"


class UnpackedImages(Materialiser):
    """Images of a pack, encoded as PNG files into a folder named by the pack's content.

    Equal packs share the folder, whatever the seed and the counts; another pack gets another folder, so that
    a file in it never has two meanings.

    Args:
        layout: of the data set.
        name: of the data set.
        source: folder of the pack's files.
        below: folder for files of our own.
    """

    def __init__(self, layout: Packed, name: str, source: Path, below: Path) -> None:
        self._layout, self._source = layout, source
        contents = [digests_of(layout.files(source, split)) for split in layout.splits]
        super().__init__(below / "unpacked" / f"{name}-{digest_of(contents)}")

    @cached_property
    def _pixels(self) -> dict[str, PixelArray]:
        """Split → pixels of all its images."""
        return {split: self._layout.pixels(self._source, split)[0] for split in self._layout.splits}

    def inspect(
        self, listed: Sequence[ListedImage], look_at: LookAt, progress: Progress
    ) -> dict[str, Inspection]:
        """Path → what looking at its file would find; nothing is written."""
        del look_at
        with progress(f"reading {len(listed)} packed images", len(listed)) as bar:
            return self.findings((image.path for image in listed), bar.advance)

    def write(self, rows: Sequence[ManifestRow], progress: Progress) -> Sequence[ManifestRow]:
        """Unpack the usable rows."""
        digests = {row.path: row.sha256 for row in rows if row.status == "ok"}
        with progress(f"unpacking {len(digests)} images", len(digests)) as bar:
            self.unpack(digests, bar.advance)
        return rows

    def sources(self, rows: Sequence[ManifestRow]) -> None:
        """Images of a pack are no files of the user's."""
        del rows

    def findings(
        self, paths: Iterable[str], on_image: Callable[[], None] = lambda: None
    ) -> dict[str, Inspection]:
        """Path → finding, out of memory."""
        found = {}
        for path in paths:
            pixels = self._pixels_of(path)
            digest = hashlib.sha256(encode_png(pixels)).hexdigest()
            height, width = pixels.shape[:2]
            found[path] = Inspection(digest, width, height, "RGB" if pixels.ndim == 3 else "L", "")
            on_image()
        return found

    def unpack(self, digests: dict[str, str], on_image: Callable[[], None] = lambda: None) -> int:
        """Write the files that are missing; those that are there and whole stay.

        Args:
            digests: path → SHA-256 of the file, as :meth:`findings` has it.
            on_image: called once per path, for progress.

        Returns:
            The number of files written.
        """
        written = 0
        for path, digest in digests.items():
            target = self.root / path
            if not is_whole(target, digest):
                write_by_rename(target, encode_png(self._pixels_of(path)))
                written += 1
            on_image()
        return written

    def _pixels_of(self, path: str) -> PixelArray:
        parts = PurePosixPath(path)  # <split>/<class>/<place in the pack>.png
        pixels: PixelArray = self._pixels[parts.parts[0]][int(parts.stem)]
        return pixels
