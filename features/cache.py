"""Backbone features on disk: computed once per image, shared by data sets, members and folds.

A shard is three files, ``<id>-pooled.npy`` (float32), ``<id>-patches.npy`` (half precision) and, written
last, ``<id>.json`` with the SHA-256 of its images. A shard without its JSON file does not exist. Arrays are
memory-mapped, so reading needs no more memory than the rows asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from contracts.files import atomic_writer, digest_of, read_json, write_json
from contracts.rows import FeatureShapes, FloatArray

# Each mapped file needs a file descriptor. 300,000 images are 2,300 files, and macOS allows 256 per process.
_OPEN_SHARDS = 64


def bytes_per_image(shapes: FeatureShapes) -> int:
    """Bytes on disk per image."""
    return 4 * shapes.pooled_dim + 2 * shapes.patch_channels * shapes.patch_grid**2


class FeatureStore:
    """Features of one backbone at one size.

    Args:
        folder: of this backbone's shards; created with the first shard.
        shapes: of the backbone's features.
    """

    def __init__(self, folder: Path, shapes: FeatureShapes) -> None:
        self.folder = folder
        self.shapes = shapes
        self._place: dict[str, tuple[str, int]] = {}
        self._open: OrderedDict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]] = OrderedDict()
        for marker in sorted(folder.glob("*.json")):
            self._register(marker.stem, read_json(marker)["sha256"])

    def _register(self, shard: str, digests: Sequence[str]) -> None:
        for row, digest in enumerate(digests):
            self._place[digest] = (shard, row)

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[Path, FeatureShapes]]:
        """Another process opens the files itself; pickling would turn memory maps into whole arrays."""
        return FeatureStore, (self.folder, self.shapes)

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._place

    def append(self, digests: list[str], pooled: FloatArray, patches: npt.NDArray[np.float16]) -> None:
        """Write one shard, whole or not at all.

        Args:
            digests: SHA-256 of the n image files.
            pooled: ``[n, D]`` float32.
            patches: ``[n, C, g, g]`` half precision.
        """
        # Checked at the door: an infinite feature would surface much later, as a collapsed member.
        if not np.isfinite(patches).all() or not np.isfinite(pooled).all():
            raise ModelError(
                "backbone features are not finite, or outside the range of half precision (±65504). "
                "Choose another backbone or other weights."
            )
        shard = digest_of(digests)
        for name, array in (("pooled", pooled), ("patches", patches)):
            with atomic_writer(self.folder / f"{shard}-{name}.npy") as handle:
                np.save(handle, array, allow_pickle=False)
        # Last, because the JSON file is what makes the shard exist.
        write_json(self.folder / f"{shard}.json", {"sha256": digests})
        self._register(shard, digests)

    def _arrays(self, shard: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
        if shard not in self._open:
            pooled = np.load(self.folder / f"{shard}-pooled.npy", mmap_mode="r", allow_pickle=False)
            patches = np.load(self.folder / f"{shard}-patches.npy", mmap_mode="r", allow_pickle=False)
            self._open[shard] = (pooled, patches)
            if len(self._open) > _OPEN_SHARDS:
                # The shard that was used longest ago; its memory map closes with the last reference.
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return self._open[shard]

    def _gather(self, digests: Sequence[str], which: int, out: FloatArray) -> FloatArray:
        # Grouped by shard, so that each file is opened once per call, whatever the order of the rows.
        rows_of_shard: dict[str, list[tuple[int, int]]] = {}
        for target, digest in enumerate(digests):
            shard, row = self._place[digest]
            rows_of_shard.setdefault(shard, []).append((target, row))
        for shard, pairs in rows_of_shard.items():
            targets, rows = zip(*pairs, strict=True)
            out[list(targets)] = self._arrays(shard)[which][list(rows)]
        return out

    def pooled(self, digests: Sequence[str]) -> FloatArray:
        """``[n, D]`` float32 pooled features of the images with these digests, in this order."""
        return self._gather(digests, 0, np.empty((len(digests), self.shapes.pooled_dim), dtype=np.float32))

    def patches(self, digests: Sequence[str]) -> FloatArray:
        """``[n, C, g, g]`` float32 patch features; they are large, so ask for one batch at a time."""
        shape = (len(digests), self.shapes.patch_channels, self.shapes.patch_grid, self.shapes.patch_grid)
        return self._gather(digests, 1, np.empty(shape, dtype=np.float32))


class PassingStore(FeatureStore):
    """Features of images that are used once; they are held in memory and not written to disk.

    Args:
        beside: the store on disk of the same backbone, whose folder holds the backbone's ONNX file.
    """

    def __init__(self, beside: FeatureStore) -> None:
        self.folder = beside.folder
        self.shapes = beside.shapes
        self._held: dict[str, tuple[FloatArray, FloatArray]] = {}

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._held

    def append(self, digests: list[str], pooled: FloatArray, patches: npt.NDArray[np.float16]) -> None:
        """Hold the features of ``n`` images in memory."""
        for row, digest in enumerate(digests):
            self._held[digest] = (pooled[row], patches[row].astype(np.float32))

    def pooled(self, digests: Sequence[str]) -> FloatArray:
        """``[n, D]`` float32."""
        return np.stack([self._held[digest][0] for digest in digests])

    def patches(self, digests: Sequence[str]) -> FloatArray:
        """``[n, C, g, g]`` float32."""
        return np.stack([self._held[digest][1] for digest in digests])
