"""Made-up rows for tests of members: small, seeded, with a minority that can be told apart.

Features are non-negative, as after a ReLU. The majority of every image's cells are plain background;
classes other than 0 add their own direction to the pooled features, to a few cells and to the pixels
of a corner. What lies outside a selection stays reachable through the shared base, as in a feature
cache, so a test may change it and see whether anyone looked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from contracts.rows import FeatureShapes, FloatArray, ImageArray, IndexArray, LabelArray, MaskArray


@dataclass(frozen=True)
class Base:
    """All rows of a made-up data set."""

    labels: LabelArray
    pooled: FloatArray
    patches: FloatArray
    images: ImageArray
    n_classes: int
    image_size: int


class ArrayRows:
    """A selection of a base; see :class:`contracts.rows.ImageRows`."""

    def __init__(self, base: Base, positions: IndexArray | None = None) -> None:
        self.base = base
        self.positions = np.arange(len(base.labels)) if positions is None else np.asarray(positions)

    @property
    def labels(self) -> LabelArray:
        return self.base.labels[self.positions]

    @property
    def groups(self) -> IndexArray:
        return self.positions

    @property
    def digests(self) -> np.ndarray:
        return np.array([f"{position:064x}" for position in self.positions])

    @property
    def is_copy(self) -> MaskArray:
        return np.zeros(len(self.positions), dtype=np.bool_)

    @property
    def view_of(self) -> IndexArray:
        return np.full(len(self), -1)

    @property
    def n_classes(self) -> int:
        return self.base.n_classes

    @property
    def shapes(self) -> FeatureShapes:
        _, channels, grid, _ = self.base.patches.shape
        return FeatureShapes(self.base.image_size, self.base.pooled.shape[1], channels, grid)

    def __len__(self) -> int:
        return len(self.positions)

    def subset(self, indices: IndexArray) -> ArrayRows:
        return ArrayRows(self.base, self.positions[indices])

    def pooled(self) -> FloatArray:
        return self.base.pooled[self.positions]

    def patches(self, batch_size: int = 64) -> Iterator[FloatArray]:
        for start in range(0, len(self), batch_size):
            yield self.base.patches[self.positions[start : start + batch_size]]

    def images(self, positions: IndexArray) -> ImageArray:
        return self.base.images[self.positions[positions]]


class RowsWithCopies:
    """Rows with repeats of some of them behind; their features and pixels are those of the source."""

    def __init__(
        self,
        rows: ArrayRows,
        sources: IndexArray,
        positions: IndexArray | None = None,
        group_size: int = 1,
    ) -> None:
        self.group_size = group_size
        self.rows, self.sources = rows, sources
        everything = np.concatenate([np.arange(len(rows)), sources])
        self.positions = np.arange(len(everything)) if positions is None else positions
        self.of = everything[self.positions]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def labels(self) -> LabelArray:
        return self.rows.labels[self.of]

    @property
    def groups(self) -> IndexArray:
        return self.of // self.group_size

    @property
    def digests(self) -> np.ndarray:
        return np.array([f"{position:064x}" for position in self.positions])

    @property
    def is_copy(self) -> MaskArray:
        return self.positions >= len(self.rows)

    @property
    def view_of(self) -> IndexArray:
        return np.full(len(self), -1)

    @property
    def n_classes(self) -> int:
        return self.rows.n_classes

    @property
    def shapes(self):
        return self.rows.shapes

    def subset(self, indices: IndexArray) -> RowsWithCopies:
        return RowsWithCopies(self.rows, self.sources, self.positions[indices], self.group_size)

    def pooled(self) -> FloatArray:
        return self.rows.pooled()[self.of]

    def patches(self, batch_size: int = 64) -> Iterator[FloatArray]:
        yield from self.rows.subset(self.of).patches(batch_size)

    def images(self, positions: IndexArray) -> ImageArray:
        return self.rows.images(self.of[positions])


def synthetic_rows(
    counts: tuple[int, ...] = (60, 20),
    *,
    seed: int = 0,
    strength: float = 1.5,
    shared: float = 0.3,
    pooled_dim: int = 12,
    patch_channels: int = 8,
    grid: int = 6,
    image_size: int = 32,
) -> ArrayRows:
    """Rows of ``len(counts)`` classes in a shuffled order; equal seeds give equal rows.

    Args:
        counts: rows of each class, minority last.
        seed: of the rows. What tells the classes apart does not depend on it.
        strength: how far the classes lie apart, in standard deviations; 0 makes them alike.
        shared: standard deviation of what all patches of an image have in common, as lighting is.
    """
    directions = np.random.default_rng(1234)
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    n = len(labels)
    pooled = 2.0 + rng.normal(size=(n, pooled_dim))
    patches = 2.0 + rng.normal(size=(n, patch_channels, grid, grid))
    patches += shared * rng.normal(size=(n, patch_channels, 1, 1))
    images = rng.normal(110.0, 20.0, size=(n, image_size, image_size, 3))
    for label in range(1, len(counts)):
        mine = labels == label
        signs = directions.choice([-1.0, 1.0], size=pooled_dim)
        pooled[mine] += strength * signs
        cells = 1 + label
        push = 2.0 * strength * directions.choice([0.5, 1.0], size=patch_channels)
        patches[mine, :, :cells, :cells] += push[:, None, None]
        half = image_size // 2
        images[mine, :half, :half, label % 3] += 60.0 * strength
    return ArrayRows(
        Base(
            labels=labels,
            pooled=np.maximum(pooled, 0.0).astype(np.float32),
            # Half precision's own numbers, as the cache gives them.
            patches=np.maximum(patches, 0.0).astype(np.float16).astype(np.float32),
            images=images.clip(0, 255).astype(np.uint8),
            n_classes=len(counts),
            image_size=image_size,
        )
    )


def scrambled(rows: ArrayRows, positions: IndexArray, seed: int = 99) -> ArrayRows:
    """The same selection over a base whose rows at ``positions`` (of the base) hold other data."""
    rng = np.random.default_rng(seed)
    base = rows.base
    pooled, patches, images = base.pooled.copy(), base.patches.copy(), base.images.copy()
    pooled[positions] = rng.uniform(0, 50, size=pooled[positions].shape)
    patches[positions] = rng.uniform(0, 50, size=patches[positions].shape)
    images[positions] = rng.integers(0, 256, size=images[positions].shape)
    return ArrayRows(replace(base, pooled=pooled, patches=patches, images=images), rows.positions)


def relabelled(rows: ArrayRows, labels: LabelArray) -> ArrayRows:
    """The same selection over a base with other labels."""
    return ArrayRows(replace(rows.base, labels=np.asarray(labels, dtype=np.int64)), rows.positions)
