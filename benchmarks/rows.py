"""Rows held in memory, for benchmarks of members that read pixels or the patches of a given backbone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from contracts.rows import FeatureShapes, FloatArray, ImageArray, IndexArray, LabelArray, MaskArray


@dataclass(frozen=True)
class MemoryRows:
    """See :class:`contracts.rows.ImageRows`.

    Attributes:
        labels: ``[N]`` 0 or 1.
        pixels: ``[N, S, S, 3]`` uint8.
        patch_features: ``[N, C, g, g]``, where a benchmark has computed them; else None.
    """

    labels: LabelArray
    pixels: ImageArray
    patch_features: np.ndarray | None = None

    @property
    def groups(self) -> IndexArray:
        """Every row stands for itself."""
        return np.arange(len(self), dtype=np.int64)

    @property
    def digests(self) -> npt.NDArray[np.str_]:
        """``[N]`` SHA-256 of the pixels, as there are no files."""
        return np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in self.pixels])

    @property
    def is_copy(self) -> MaskArray:
        """No row is a copy."""
        return np.zeros(len(self), dtype=np.bool_)

    @property
    def view_of(self) -> IndexArray:
        """No row is a view."""
        return np.full(len(self), -1, dtype=np.int64)

    @property
    def n_classes(self) -> int:
        """Two."""
        return 2

    @property
    def shapes(self) -> FeatureShapes:
        """Of the pixels, and of the patches where there are any."""
        if self.patch_features is None:
            return FeatureShapes(self.pixels.shape[1], 0, 0, 0)
        _, channels, grid, _ = self.patch_features.shape
        return FeatureShapes(self.pixels.shape[1], 0, channels, grid)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: IndexArray) -> MemoryRows:
        """The rows at ``indices``."""
        patches = None if self.patch_features is None else self.patch_features[indices]
        return replace(self, labels=self.labels[indices], pixels=self.pixels[indices], patch_features=patches)

    def pooled(self) -> FloatArray:
        """No benchmark reads pooled features."""
        return np.zeros((len(self), 0), dtype=np.float32)

    def patches(self, batch_size: int = 64) -> Iterator[FloatArray]:
        """Yield ``[B, C, g, g]`` float32 in row order."""
        assert self.patch_features is not None
        for start in range(0, len(self), batch_size):
            yield self.patch_features[start : start + batch_size].astype(np.float32)

    def images(self, positions: IndexArray) -> ImageArray:
        """``[B, S, S, 3]`` uint8."""
        return self.pixels[positions]


def textured_rows(n_normal: int, n_odd: int, side: int, seed: int = 0) -> MemoryRows:
    """Made-up images: stripes of varying slant and shade, with a bright blotch on the anomalous ones."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.array([0, 1]), (n_normal, n_odd)).astype(np.int64)
    y, x = np.mgrid[0:side, 0:side] / side
    pixels = np.empty((len(labels), side, side, 3), dtype=np.uint8)
    for i, label in enumerate(labels):
        slant, shade, phase = rng.uniform(0.8, 1.2), rng.uniform(90, 150), rng.uniform(0, 2 * np.pi)
        image = shade + 40 * np.sin(20 * (x + slant * y) + phase) + rng.normal(0, 8, (side, side))
        image = np.repeat(image[:, :, None], 3, axis=2)
        if label:
            cy, cx = rng.uniform(0.25, 0.75, 2)
            inside = (y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(0.1, 0.18) ** 2
            image[inside] += (90.0, -60.0, -60.0)
        pixels[i] = image.clip(0, 255)
    return MemoryRows(labels, pixels)
