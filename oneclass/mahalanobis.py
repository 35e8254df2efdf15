"""Mahalanobis distance of pooled features from the majority, with a shrunk covariance.

Source: Rippel, Mertens & Merhof 2021, "Modeling the Distribution of Normal Data in Pre-Trained Deep Features
for Anomaly Detection" (ICPR, https://arxiv.org/abs/2005.14140): one Gaussian fitted to the majority's
features, its covariance shrunk as in Ledoit & Wolf 2004. We differ in two ways: there is one Gaussian over
all pooled layers instead of one per layer, and features are standardised first, because shrinkage towards a
sphere depends on their scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import MemberCollapsedError
from contracts.member import FitContext, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows, MaskArray
from features.member import FormulaMember
from features.spread import floored_spread
from oneclass.collapse import require_distinct_scores
from oneclass.majority import drawn_rows, families_of, held_out_parts, majority_rows

if TYPE_CHECKING:
    from torch import Tensor

    from features.tensors import BackboneFeatures

_LEAST_STD = 1e-6
_LEAST_SHRINKAGE = 1e-6

Doubles = npt.NDArray[np.float64]


class MahalanobisSettings(BaseModel):
    """Settings of :class:`Mahalanobis`.

    Attributes:
        max_rows: majority rows that mean and covariance are estimated from, drawn at random if there are
            more. It bounds memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_rows: int = Field(default=20_000, ge=2)


class Mahalanobis(FormulaMember):
    """See the module's docstring. Raw scores are distances in standard deviations, 0 or more."""

    name = "mahalanobis"
    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"
    needs: ClassVar[frozenset[MemberInput]] = frozenset({"pooled"})
    settings: MahalanobisSettings

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Estimate mean and covariance of the majority.

        Raises:
            DataError: no majority rows.
            MemberCollapsedError: the majority rows are all alike.
        """
        majority = majority_rows(self.name, rows)
        normal = majority.subset(drawn_rows(len(majority), self.settings.max_rows, context.seed))
        # Float64 throughout: the covariance of hundreds of correlated features is nearly singular.
        pooled = normal.pooled().astype(np.float64)
        if len(pooled) > 1 and not (pooled.std(axis=0) > _LEAST_STD).any():
            raise MemberCollapsedError(
                f"mahalanobis: collapsed, its {len(pooled)} majority rows are all alike."
            )
        mean, whitening, shrinkage = _gaussian(pooled)
        context.report(f"covariance of {len(pooled)} rows shrunk by {shrinkage:.2f}")
        self._remember(mean=mean, whitening=whitening)
        # With fewer rows than features all training rows lie at about the same distance, whatever they show,
        # so equal scores would not mean a collapse.
        if len(pooled) > pooled.shape[1]:
            require_distinct_scores("mahalanobis", self.raw_score(normal))
        parts = held_out_parts(families_of(normal), context.seed)
        # A single row has no others to be measured by.
        self._standardise(_held_out_distances(pooled, parts) if parts else self.raw_score(normal))
        return self

    def formula(self, features: BackboneFeatures, fitted: Mapping[str, Tensor]) -> tuple[Tensor, None]:
        """``[N, 1]`` distances ``|(x - mean) W|``; there is no map."""
        whitened = (features.pooled - fitted["mean"]) @ fitted["whitening"]
        return whitened.norm(dim=1, keepdim=True), None


def _gaussian(pooled: Doubles) -> tuple[Doubles, Doubles, float]:
    """Mean ``[D]``, whitening W ``[D, D]`` and shrinkage of ``[N, D]`` rows."""
    mean, spread = pooled.mean(axis=0), pooled.std(axis=0)
    std = floored_spread(spread)
    # A constant feature contributes 0 for images like the training images.
    covariance, shrinkage = _shrunk_covariance((pooled - mean) / std, spread > _LEAST_STD)
    # Sigma = L L^T, so W = L^-T has W W^T = Sigma^-1 and |(x - mean) W| is the Mahalanobis distance: one
    # matrix product in the graph. The division by std is folded in.
    return mean, np.linalg.inv(np.linalg.cholesky(covariance)).T / std[:, None], shrinkage


def _held_out_distances(pooled: Doubles, parts: list[MaskArray]) -> FloatArray:
    """``[R, 1]`` distances of rows from a Gaussian of the other rows.

    Rows lie closer to a Gaussian that was estimated from them than new rows do. With fewer rows than features
    all of them lie at about the same distance, which says nothing of what new rows have.

    Args:
        pooled: ``[N, D]`` majority rows.
        parts: see :func:`oneclass.majority.held_out_parts`.
    """
    distances = []
    for held_out in parts:
        mean, whitening, _ = _gaussian(pooled[~held_out])
        distances.append(np.linalg.norm((pooled[held_out] - mean) @ whitening, axis=1, keepdims=True))
    return np.concatenate(distances).astype(np.float32)


def _shrunk_covariance(standard: Doubles, varies: MaskArray) -> tuple[Doubles, float]:
    """Covariance ``[D, D]`` of ``[N, D]`` centred rows, and the weight of the sphere in it, 0…1.

    Args:
        standard: rows with mean 0.
        varies: ``[D]`` features that vary; the others get variance 1.
    """
    # Imported here: scikit-learn takes a second, and recipes are checked without it.
    from sklearn.covariance import ledoit_wolf

    n_features = standard.shape[1]
    if len(standard) == 1:
        return np.eye(n_features), 1.0
    covariance, shrinkage = ledoit_wolf(standard, assume_centered=True)
    # Ledoit-Wolf may shrink by 0; linearly dependent features would then leave no inverse.
    least = _LEAST_SHRINKAGE * float(np.trace(covariance)) / n_features
    return covariance + np.diag(np.where(varies, least, 1.0)), float(shrinkage)
