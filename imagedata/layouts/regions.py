"""Images of which only a region is shown: what a mask leaves dark becomes black.

Chest X-rays of several sources tell their source by corners, letters and borders; with the lungs alone left,
a model cannot learn from those. The masked images are files of their own, so that everything from the
features on works as it does on any data set. Rows are drawn by the unmasked files' bytes, so that the masked
variant of a data set trains and tests on the very images of the other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from contracts.errors import DataError, ImageError
from contracts.files import read_json, write_json
from imagedata.decoding.decode import IMAGE_SUFFIXES, decode_at_stored_size, read_image_bytes
from imagedata.decoding.stored_png import encode_png
from imagedata.inspection import Inspection
from imagedata.layouts.kinds import ClassFolders
from imagedata.layouts.one_image import ListedImage
from imagedata.manifest import Manifest
from imagedata.manifest_row import ManifestRow

_VISIBLE = 128
"""Least grey value of a mask at which the image shows."""

_INDEX = "made.json"


@dataclass(frozen=True)
class Regions:
    """The masks of a data set.

    Attributes:
        mask_of: path of an image → path of its mask, both relative to the set's root.
        missing: images without a mask.
    """

    mask_of: dict[str, str]
    missing: tuple[str, ...]


def find_regions(layout: ClassFolders, root: Path, listed: list[ListedImage]) -> Regions:
    """Find the mask of each image: the file of the same name, whatever its ending, in the class's folder."""
    assert layout.region_masks is not None
    masks: dict[str, dict[str, str]] = {}
    mask_of, missing = {}, []
    for image in listed:
        folder = layout.region_masks.replace("{class}", layout.folder_of_class.get(image.label, image.label))
        if folder not in masks:
            masks[folder] = _names_by_stem(root, folder)
        mask = masks[folder].get(PurePosixPath(image.path).stem)
        if mask is None:
            missing.append(image.path)
        else:
            mask_of[image.path] = mask
    return Regions(mask_of, tuple(missing))


def _names_by_stem(root: Path, folder: str) -> dict[str, str]:
    try:
        names = sorted(path.name for path in (root / folder).iterdir())
    except OSError as error:
        raise DataError(f"{root / folder}: cannot be read: {error.strerror}. Make it readable.") from error
    return {
        PurePosixPath(name).stem: f"{folder}/{name}"
        for name in reversed(names)
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
    }


def with_mask_problems(
    regions: Regions, images: dict[str, Inspection], masks: dict[str, Inspection]
) -> dict[str, Inspection]:
    """Findings of images, in which a mask that is missing or broken is a fault of its image.

    Args:
        regions: which mask belongs to which image.
        images: path → finding of the image.
        masks: path → finding of the mask.
    """
    found = {}
    for path, finding in images.items():
        problem = finding.problem
        if not problem and path not in regions.mask_of:
            problem = "it has no mask, and this data set shows images by their masks."
        elif not problem and masks[regions.mask_of[path]].problem:
            problem = f"its mask {regions.mask_of[path]}: {masks[regions.mask_of[path]].problem}"
        found[path] = replace(finding, problem=problem)
    return found


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


def write_regions(
    manifest: Manifest,
    regions: Regions,
    masks: dict[str, Inspection],
    target: Path,
    window: tuple[float, float] | None,
    on_image: Callable[[], None] = lambda: None,
) -> Manifest:
    """Write the masked files of the usable rows, and give the manifest of those.

    Files that were written before from the same image and mask stay as they are.

    Args:
        manifest: of the unmasked images.
        regions: which mask belongs to which image.
        masks: path → finding of the mask.
        target: folder of the masked files, which have the images' paths, with ``.png`` at their end.
        window: grey values of deep images that become black and white.
        on_image: called once a usable row, for progress.
    """
    index: dict[str, list[str]] = _read_index(target / _INDEX)
    rows = []
    for row in manifest.rows:
        if row.status != "ok":
            rows.append(row)
            continue
        mask = regions.mask_of[row.path]
        rows.append(_masked(row, manifest.root, mask, masks[mask].sha256, target, window, index))
        on_image()
    write_json(target / _INDEX, index)
    return replace(manifest, root=target, rows=tuple(rows))


def _masked(
    row: ManifestRow,
    root: Path,
    mask: str,
    mask_sha256: str,
    target: Path,
    window: tuple[float, float] | None,
    index: dict[str, list[str]],
) -> ManifestRow:
    path = row.path if row.path.endswith(".png") else f"{row.path}.png"
    made_of = [row.sha256, mask_sha256, str(window)]
    known = index.get(path, [])
    file = target / path
    if known[:-1] == made_of and file.is_file():
        digest = known[-1]
        if hashlib.sha256(file.read_bytes()).hexdigest() == digest:
            return replace(row, path=path, sha256=digest)
    try:
        data = show_regions(read_image_bytes(root / row.path), read_image_bytes(root / mask), window)
    except ImageError as error:
        return replace(row, status="broken", reason=str(error))
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(file)
    digest = hashlib.sha256(data).hexdigest()
    index[path] = [*made_of, digest]
    return replace(row, path=path, sha256=digest)


def _read_index(path: Path) -> dict[str, list[str]]:
    try:
        document = read_json(path)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
