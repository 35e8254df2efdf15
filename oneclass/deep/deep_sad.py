"""Deep SAD: Deep SVDD that also sees labelled minority rows, and pushes them away from the centre.

Source: Ruff et al. 2020, "Deep Semi-Supervised Anomaly Detection" (ICLR, https://arxiv.org/abs/1906.02694),
equation 7: a minority row at squared distance d adds eta / (d + 1e-6) where a majority row adds d. Where we
differ: the majority's rows all count as unlabelled, and the autoencoder, the input statistics and the centre
follow from them alone, so that eta is all that parts Deep SAD from Deep SVDD with the same settings.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from contracts.member import MemberKind
from contracts.rows import ImageRows, IndexArray
from oneclass.deep.deep_svdd import DeepSVDD
from oneclass.deep.deep_svdd_pixels import DeepSVDDPixels
from oneclass.settings import DeepSADPixelsSettings, DeepSADSettings


def minority_positions(rows: ImageRows) -> IndexArray:
    """Positions of the rows of the last class, the minority, augmented copies among them."""
    return np.flatnonzero(rows.labels == rows.n_classes - 1).astype(np.int64)


class DeepSAD(DeepSVDD):
    """On the backbone's features. Without minority rows it is :class:`oneclass.deep.deep_svdd.DeepSVDD`."""

    kind: ClassVar[MemberKind] = "semisupervised"
    name: ClassVar[str] = "deep_sad"

    def __init__(self, settings: DeepSADSettings) -> None:
        super().__init__(settings)

    def _minority_positions(self, rows: ImageRows) -> IndexArray:
        return minority_positions(rows)


class DeepSADPixels(DeepSVDDPixels):
    """From pixels. Without minority rows it is :class:`oneclass.deep.deep_svdd_pixels.DeepSVDDPixels`."""

    kind: ClassVar[MemberKind] = "semisupervised"
    name: ClassVar[str] = "deep_sad_pixels"

    def __init__(self, settings: DeepSADPixelsSettings) -> None:
        super().__init__(settings)

    def _minority_positions(self, rows: ImageRows) -> IndexArray:
        return minority_positions(rows)
