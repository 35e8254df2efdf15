"""Data sets whose images come packed into a few files, as MNIST's: listed, looked at and unpacked.

The pack is read in memory; every image becomes a PNG file in thought, whose digest decides by the usual
rules which images the run takes. Only those are written, and from there everything works on files
(docs/decisions/0007-packed-data-sets.md).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from contracts.errors import DataError
from contracts.files import digest_of, sha256_of_file
from contracts.rows import LabelArray
from imagedata.decoding.stored_png import encode_png
from imagedata.inspection import Inspection
from imagedata.layouts.pack_formats import PixelArray, read_images, read_labels
from imagedata.spec import DataSpec, Packed


def pack_file(root: Path, name: str) -> Path | None:
    """The file ``name`` below ``root``, or its ``.gz``; None where neither is there."""
    for candidate in (root / name, root / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def packed_labels(layout: Packed, root: Path, split: str) -> LabelArray:
    """``[N]`` label values of a split, in the pack's order."""
    return read_labels(layout.format, _files(layout, root, split))


def packed_images(layout: Packed, root: Path, split: str) -> tuple[PixelArray, LabelArray]:
    """``[N, H, W]`` or ``[N, H, W, 3]`` pixels and ``[N]`` label values of a split, in the pack's order."""
    return read_images(layout.format, _files(layout, root, split))


def packed_path(split: str, class_name: str, index: int) -> str:
    """Relative path of an image once unpacked; the number is its place in the pack."""
    return f"{split}/{class_name}/{index:06d}.png"


def _files(layout: Packed, root: Path, split: str) -> list[Path]:
    names = layout.train if split == "train" else layout.test or []
    found = []
    for name in names:
        path = pack_file(root, name)
        if path is None:
            raise DataError(f"{root / name}: no such file any more. Put it back and run again.")
        found.append(path)
    return found


class OpenPack:
    """A pack in memory, as PNG files in thought.

    Args:
        spec: a data set with a packed layout.
        source: folder of the pack's files, from :func:`imagedata.layouts.listing.find_root`.
    """

    def __init__(self, spec: DataSpec, source: Path) -> None:
        assert isinstance(spec.layout, Packed)
        self._pixels: dict[str, PixelArray] = {
            split: read_images(spec.layout.format, _files(spec.layout, source, split))[0]
            for split in ("train", "test")
            if split == "train" or spec.layout.test
        }

    def inspect(
        self, paths: Iterable[str], on_image: Callable[[], None] = lambda: None
    ) -> dict[str, Inspection]:
        """Path → what looking at its file would find; nothing is written."""
        found = {}
        for path in paths:
            pixels = self._pixels_of(path)
            digest = hashlib.sha256(encode_png(pixels)).hexdigest()
            height, width = pixels.shape[:2]
            found[path] = Inspection(digest, width, height, "RGB" if pixels.ndim == 3 else "L", "")
            on_image()
        return found

    def unpack(self, root: Path, digests: dict[str, str], on_image: Callable[[], None] = lambda: None) -> int:
        """Write the files that are missing; those that are there and whole stay.

        A file appears by a rename. It is not flushed to disk, of which 20,000 would take minutes; instead
        a file that is there is read and compared, so that one torn by a power cut is written anew.

        Args:
            root: folder that the paths are relative to.
            digests: path → SHA-256 of the file, as :meth:`inspect` found it.
            on_image: called once a path, for progress.

        Returns:
            The number of files written.
        """
        written = 0
        for path, digest in digests.items():
            target = root / path
            if not target.is_file() or hashlib.sha256(target.read_bytes()).hexdigest() != digest:
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
                temporary.write_bytes(encode_png(self._pixels_of(path)))
                temporary.replace(target)
                written += 1
            on_image()
        return written

    def _pixels_of(self, path: str) -> PixelArray:
        parts = PurePosixPath(path)
        pixels: PixelArray = self._pixels[parts.parts[0]][int(parts.stem)]
        return pixels


def unpacked_root(spec: DataSpec, source: Path, below: Path) -> Path:
    """Where a pack's images lie once unpacked: a folder of the pack's content, below ``below``.

    Equal packs share it, whatever the seed and the counts; another pack gets another folder, so that no
    file in it is ever of two minds.
    """
    assert isinstance(spec.layout, Packed)
    splits = ("train", "test") if spec.layout.test else ("train",)
    digests = [[sha256_of_file(path) for path in _files(spec.layout, source, split)] for split in splits]
    return below / f"{spec.name}-{digest_of(digests)}"


def positions_of_class(labels: LabelArray, value: int) -> list[int]:
    """Places in the pack of the images with a label value."""
    return [int(index) for index in np.flatnonzero(labels == value)]
