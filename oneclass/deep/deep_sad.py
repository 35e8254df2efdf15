"""Deep SAD: Deep SVDD that also sees labelled minority rows, and pushes them away from the centre.

Source: Ruff et al. 2020, "Deep Semi-Supervised Anomaly Detection" (ICLR, https://arxiv.org/abs/1906.02694),
equation 7: a minority row at squared distance d adds eta / (d + 1e-6) where a majority row adds d. We differ
in treating all majority rows as unlabelled: autoencoder, input statistics and centre follow from them alone.
So Deep SAD differs from Deep SVDD with the same settings by the minority rows' term and nothing else.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from contracts.member import MemberKind
from contracts.rows import ImageRows, IndexArray
from oneclass.deep.deep_svdd import DeepSVDD
from oneclass.deep.deep_svdd_pixels import DeepSVDDPixels
from oneclass.deep.settings import DeepSADPixelsSettings, DeepSADSettings


def minority_positions(rows: ImageRows) -> IndexArray:
    """Positions of the rows of the last class, the minority, including augmented copies."""
    return np.flatnonzero(rows.labels == rows.n_classes - 1).astype(np.int64)


class DeepSAD(DeepSVDD):
    """On the backbone's features. Without minority rows it is :class:`oneclass.deep.deep_svdd.DeepSVDD`."""

    name = "deep_sad"
    kind: ClassVar[MemberKind] = "semisupervised"
    settings: DeepSADSettings

    def _minority_positions(self, rows: ImageRows) -> IndexArray:
        return minority_positions(rows)


class DeepSADPixels(DeepSVDDPixels):
    """From pixels. Without minority rows it is :class:`oneclass.deep.deep_svdd_pixels.DeepSVDDPixels`."""

    name = "deep_sad_pixels"
    kind: ClassVar[MemberKind] = "semisupervised"
    settings: DeepSADPixelsSettings

    def _minority_positions(self, rows: ImageRows) -> IndexArray:
        return minority_positions(rows)
