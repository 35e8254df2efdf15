"""Data sets whose encoded images lie in parquet or webdataset shards: listed, and written out as files.

Names in a shard are never used as paths: an image is called by its split, its class and its place. What
its owner calls it is checked nevertheless, and a shard with a name that leads out of a folder, a link, or a
content far larger than its file is refused: whoever made it meant harm.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from contracts.errors import DataError
from contracts.files import digest_of, sha256_of_file
from imagedata.layouts.kinds import Shards
from imagedata.layouts.one_image import ListedImage, Split, matching_paths
from imagedata.layouts.shard_formats import Sample, parquet_samples, tar_samples

_SIGNATURES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)


def shard_files(layout: Shards, root: Path, split: str) -> list[Path]:
    """Files of a split, in the order of the patterns and, within one, of the names.

    Raises:
        DataError: a pattern stands for no file.
    """
    found: list[Path] = []
    for pattern in layout.train if split == "train" else layout.test or []:
        paths = [path for path in matching_paths(root, pattern) if path.is_file()]
        if not paths:
            raise DataError(f"{root / pattern}: no such file any more. Put it back and run again.")
        found += [path for path in paths if path not in found]
    return found


def list_shards(layout: Shards, root: Path) -> Iterator[ListedImage]:
    """Images by the paths that they will have once written out.

    Raises:
        DataError: a shard is damaged, hostile, or lacks what the layout names.
    """
    for image, _ in _images(layout, root):
        yield image


def write_shards(
    layout: Shards, root: Path, target: Path, on_image: Callable[[], None] = lambda: None
) -> int:
    """Write the images that are missing below ``target``, byte for byte; those there and whole stay.

    Returns:
        The number of files written.
    """
    written = 0
    for image, data in _images(layout, root):
        path = target / image.path
        if not path.is_file() or sha256_of_file(path) != hashlib.sha256(data).hexdigest():
            # By a rename, but not flushed to disk: a file torn by a power cut is written anew, above.
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.write_bytes(data)
            temporary.replace(path)
            written += 1
        on_image()
    return written


def written_root(name: str, layout: Shards, root: Path, below: Path) -> Path:
    """Where the images of a data set lie once written out: a folder of the shards' content."""
    splits = ("train", "test") if layout.test else ("train",)
    digests = [[sha256_of_file(path) for path in shard_files(layout, root, split)] for split in splits]
    reading = [layout.format, layout.image, layout.label, layout.group, layout.label_of_class]
    return below / f"{name}-{digest_of([digests, reading])}"


def _images(layout: Shards, root: Path) -> Iterator[tuple[ListedImage, bytes]]:
    class_of = {str(label): name for name, label in layout.label_of_class.items()}
    splits: tuple[Split, ...] = ("train", "test") if layout.test else ("train",)
    for split in splits:
        place = 0
        for file in shard_files(layout, root, split):
            for sample in samples_of(layout, file):
                name = class_of.get(sample.label)
                if name is not None:
                    path = f"{split}/{name}/{place:07d}{_suffix(sample.data)}"
                    yield ListedImage(path, name, split, sample.group), sample.data
                place += 1


def samples_of(layout: Shards, file: Path) -> Iterator[Sample]:
    """Images with their labels of one shard, in its order."""
    if layout.format == "parquet":
        return parquet_samples(file, layout.image or "image", layout.label or "label", layout.group)
    return tar_samples(file, layout.image, layout.label or "cls", layout.group)


def _suffix(data: bytes) -> str:
    """The ending that fits an image's first bytes; ``.img`` where none is known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for start, suffix in _SIGNATURES if data.startswith(start)), ".img")
