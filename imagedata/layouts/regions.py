"""Images of which only a region is shown: what a mask leaves dark becomes black.

Chest X-rays of several sources tell their source by corners, letters and borders; with the lungs alone left,
a model cannot learn from those. The masked images are files of their own, so that everything from the
features on works as it does on any data set. Rows are drawn by the unmasked files' bytes, so that the masked
variant of a data set trains and tests on the very images of the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from contracts.errors import DataError, ImageError
from contracts.files import digest_of, read_json, write_json
from imagedata.decoding.decode import decode_at_stored_size, read_image_bytes
from imagedata.decoding.stored_png import encode_png
from imagedata.file_names import is_image_name, is_junk
from imagedata.inspection import Inspection
from imagedata.layouts.listed_image import ListedImage
from imagedata.layouts.materialiser import LookAt, Materialiser, Progress, is_whole, write_by_rename
from imagedata.manifest_row import ManifestRow

_VISIBLE = 128
"""Least grey value of a mask at which the image shows."""

_INDEX = "made.json"


class MaskedImages(Materialiser):
    """Images of class folders with what their masks leave dark made black, as files of our own.

    Args:
        name: of the data set.
        source: folder of the images and masks.
        below: folder for files of our own.
        masks: pattern of the mask folders, which decides with ``source`` what our own folder is called.
        folder_of_class: class name → folder of its masks, relative to ``source``.
        window: grey values of deep images that become black and white.
    """

    def __init__(
        self,
        name: str,
        source: Path,
        below: Path,
        *,
        masks: str,
        folder_of_class: dict[str, str],
        window: tuple[float, float] | None,
    ) -> None:
        self._source = Materialiser(source).root
        self._folder_of_class, self._window = folder_of_class, window
        self._mask_of: dict[str, str] = {}
        self._masks: dict[str, Inspection] = {}
        super().__init__(below / "masked" / f"{name}-{digest_of([str(self._source), masks])}")

    def inspect(
        self, listed: Sequence[ListedImage], look_at: LookAt, progress: Progress
    ) -> dict[str, Inspection]:
        """Findings of the images as they are; a missing or broken mask is a fault of its image.

        Rows are drawn by these, so that the masked variant of a set has the rows of the other.
        """
        del progress
        self._mask_of = self._find_masks(listed)
        self._masks = look_at(self._source, sorted(set(self._mask_of.values())), "masks")
        images = look_at(self._source, [image.path for image in listed], "images")
        return {
            path: replace(finding, problem=finding.problem or self._mask_problem(path))
            for path, finding in images.items()
        }

    def sources(self, rows: Sequence[ManifestRow]) -> list[tuple[str, ManifestRow]]:
        """The images that the rows were made of, whose digests the index of our own folder holds."""
        index = _read_index(self.root / _INDEX)
        found = []
        for row in rows:
            path = row.path.removesuffix(".png")
            if not is_image_name(path):
                path = row.path  # a PNG file keeps its name when it is masked
            digest, *_ = index.get(row.path) or [row.sha256]
            # Rows that were never written still have the path and the digest of the image itself.
            found.append((path, replace(row, sha256=digest)) if row.status == "ok" else (row.path, row))
        return found

    def write(self, rows: Sequence[ManifestRow], progress: Progress) -> Sequence[ManifestRow]:
        """Write the masked files of the usable rows, and give those rows.

        Files that were written before from the same image and mask stay as they are.
        """
        index = _read_index(self.root / _INDEX)
        usable = sum(row.status == "ok" for row in rows)
        written = []
        with progress(f"masking {usable} images", usable) as bar:
            for row in rows:
                if row.status == "ok":
                    row = self._masked(row, index)  # noqa: PLW2901
                    bar.advance()
                written.append(row)
        write_json(self.root / _INDEX, index)
        return written

    def _find_masks(self, listed: Sequence[ListedImage]) -> dict[str, str]:
        """Image → mask: the file of the same name, whatever its ending, in the class's folder of masks."""
        masks_of = {name: _names_by_stem(self._source, at) for name, at in self._folder_of_class.items()}
        found = {image.path: masks_of[image.label].get(PurePosixPath(image.path).stem) for image in listed}
        return {path: mask for path, mask in found.items() if mask is not None}

    def _mask_problem(self, path: str) -> str:
        """Why an image cannot be shown by its mask; empty where it can."""
        mask = self._mask_of.get(path)
        if mask is None:
            return "it has no mask, and this data set shows images by their masks."
        problem = self._masks[mask].problem
        return f"its mask {mask}: {problem}" if problem else ""

    def _masked(self, row: ManifestRow, index: dict[str, list[str]]) -> ManifestRow:
        """The row of the masked file, which is written and put into ``index`` where it is missing."""
        mask = self._mask_of[row.path]
        path = row.path if row.path.endswith(".png") else f"{row.path}.png"
        made_of = [row.sha256, self._masks[mask].sha256, str(self._window)]
        *known_source, known_digest = index.get(path) or [""]
        if known_source == made_of and is_whole(self.root / path, known_digest):
            return replace(row, path=path, sha256=known_digest)
        try:
            image, visible = (read_image_bytes(self._source / each) for each in (row.path, mask))
            data = show_regions(image, visible, self._window)
        except ImageError as error:
            return replace(row, status="broken", reason=str(error))
        write_by_rename(self.root / path, data)
        digest = hashlib.sha256(data).hexdigest()
        index[path] = [*made_of, digest]
        return replace(row, path=path, sha256=digest)


def _names_by_stem(root: Path, folder: str) -> dict[str, str]:
    try:
        names = sorted(path.name for path in (root / folder).iterdir())
    except OSError as error:
        raise DataError(f"{root / folder}: cannot be read: {error.strerror}. Make it readable.") from error
    return {
        PurePosixPath(name).stem: f"{folder}/{name}"
        for name in reversed(names)
        if is_image_name(name) and not is_junk(name)
    }


def show_regions(image: bytes, mask: bytes, window: tuple[float, float] | None) -> bytes:
    """PNG file of an image at its stored size, black where its mask is dark.

    Args:
        image: file of the image.
        mask: file of the mask; stretched to the image's size without interpolation where it differs.
        window: grey values of deep images that become black and white.

    Raises:
        ImageError: one of them cannot be decoded, or the mask shows nothing.
    """
    from PIL import Image

    pixels = np.asarray(decode_at_stored_size(image, window))
    stretched = decode_at_stored_size(mask, None).convert("L")
    if stretched.size != (pixels.shape[1], pixels.shape[0]):
        stretched = stretched.resize((pixels.shape[1], pixels.shape[0]), Image.Resampling.NEAREST)
    visible = np.asarray(stretched) >= _VISIBLE
    if not visible.any():
        raise ImageError("its mask shows nothing of it.")
    shown = np.where(visible[:, :, None], pixels, np.uint8(0))
    is_grey = bool((shown[:, :, :1] == shown).all())
    return encode_png(np.ascontiguousarray(shown[:, :, 0] if is_grey else shown))


def _read_index(path: Path) -> dict[str, list[str]]:
    try:
        document = read_json(path)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
