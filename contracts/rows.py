"""Rows of a data set as members see them: labels, cached backbone features, pixels, all read lazily."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.int64]
IndexArray = npt.NDArray[np.int64]
ImageArray = npt.NDArray[np.uint8]
MaskArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FeatureShapes:
    """Sizes of what a backbone gives for one image of ``image_size`` × ``image_size`` pixels."""

    image_size: int
    pooled_dim: int
    patch_channels: int
    patch_grid: int


class ImageRows(Protocol):
    """A selection of images with labels. N rows; K classes.

    Class indices follow the spec's class order, in which the minority class comes last: for two
    classes label 1 is the minority and label 0 the majority.
    """

    @property
    def labels(self) -> LabelArray:
        """``[N]`` class index of each row, 0…K-1."""

    @property
    def groups(self) -> IndexArray:
        """``[N]`` group number (patient, lot); a member that sets rows aside keeps equal numbers together."""

    @property
    def digests(self) -> npt.NDArray[np.str_]:
        """``[N]`` hex SHA-256 of the images' bytes: who a row is, in whatever selection it stands."""

    @property
    def is_copy(self) -> MaskArray:
        """``[N]`` whether a row is an augmented copy or a view of another, whose label and group it has.

        Copies are there to learn from. They enter no class share and judge nothing: a member that sets
        rows aside sets real ones aside, and leaves out the copies of their groups.
        """

    @property
    def view_of(self) -> IndexArray:
        """``[N]`` position within this selection of the image that a row is a view of; -1 where it is none.

        A view whose image is not in the selection has -1 as well.
        """

    @property
    def n_classes(self) -> int:
        """K, at least 2; a property of the data set, not of the selection."""

    @property
    def shapes(self) -> FeatureShapes:
        """Sizes of the backbone features behind these rows."""

    def __len__(self) -> int:
        """N."""

    def subset(self, indices: IndexArray) -> ImageRows:
        """The rows at ``indices`` (positions within this selection), in that order."""

    def pooled(self) -> FloatArray:
        """``[N, D]`` pooled backbone features."""

    def patches(self, batch_size: int = 64) -> Iterator[FloatArray]:
        """Yield ``[B, C, g, g]`` patch features, in row order, without holding all of them."""

    def images(self, positions: IndexArray) -> ImageArray:
        """``[B, S, S, 3]`` uint8 RGB pixels at the working size of the rows at ``positions``."""


@runtime_checkable
class MirrorableRows(Protocol):
    """Rows that can be seen as their mirror images, too."""

    def mirrored(self) -> ImageRows:
        """The same rows, each image with left and right exchanged; who they are, their digests, stays."""


def majority_positions(rows: ImageRows) -> IndexArray:
    """Positions of the rows a one-class member may learn from: every class but the last, the minority."""
    return np.flatnonzero(rows.labels != rows.n_classes - 1).astype(np.int64)


def real_positions(rows: ImageRows) -> IndexArray:
    """Positions of the rows that are no augmented copies."""
    return np.flatnonzero(~rows.is_copy).astype(np.int64)
