"""Mahalanobis distance of pooled features from the majority, with a shrunk covariance.

Source: Rippel, Mertens & Merhof 2021, "Modeling the Distribution of Normal Data in Pre-Trained Deep Features
for Anomaly Detection" (ICPR, https://arxiv.org/abs/2005.14140): one Gaussian of the majority's features, its
covariance shrunk by Ledoit & Wolf 2004. Where we differ: one Gaussian over all pooled layers together rather
than one a layer, and features are standardised first, as shrinkage towards a sphere depends on their scales.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from contracts.errors import DataError, MemberCollapsedError
from contracts.files import Arrays
from contracts.member import FitContext, Member, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows, MaskArray, majority_positions
from features.apply import score_with_module
from features.tensors import BackboneFeatures
from oneclass.collapse import require_distinct_scores
from oneclass.neighbours.nearest import drawn_rows
from oneclass.settings import MahalanobisSettings

_LEAST_STD = 1e-6
_LEAST_SHRINKAGE = 1e-6

Doubles = npt.NDArray[np.float64]


class Mahalanobis(Member):
    """See the module's docstring. Scores are distances in standard deviations, 0 or more."""

    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"

    def __init__(self, settings: MahalanobisSettings) -> None:
        self.settings = settings
        self._module: MahalanobisModule | None = None

    @property
    def needs(self) -> frozenset[MemberInput]:
        """Pooled features only."""
        return frozenset({"pooled"})

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Estimate mean and covariance of the majority.

        Raises:
            DataError: no majority rows.
            MemberCollapsedError: the majority rows are all alike.
        """
        majority = majority_positions(rows)
        if len(majority) == 0:
            raise DataError("mahalanobis: no majority images to learn from. Check the labels.")
        kept = majority[drawn_rows(len(majority), self.settings.max_rows, context.seed)]
        normal = rows.subset(kept)
        pooled = normal.pooled().astype(np.float64)
        mean, std = pooled.mean(axis=0), pooled.std(axis=0)
        # A feature that is silent on the majority keeps its own scale, so that it drowns no others.
        speaks = std > _LEAST_STD
        if len(pooled) > 1 and not speaks.any():
            raise MemberCollapsedError(
                f"mahalanobis: collapsed, its {len(pooled)} majority rows are all alike."
            )
        std = np.where(speaks, std, 1.0)
        covariance, shrinkage = _shrunk_covariance((pooled - mean) / std, speaks)
        whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T / std[:, None]
        context.report(f"covariance of {len(pooled)} rows shrunk by {shrinkage:.2f}")
        module = MahalanobisModule(
            torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(whitening.astype(np.float32))
        )
        if len(pooled) > pooled.shape[1]:
            # With fewer rows than features all of them lie at about the same distance, whatever they hold.
            require_distinct_scores("mahalanobis", score_with_module(module, normal, self.needs))
        self._module = module
        return self

    def score(self, rows: ImageRows) -> FloatArray:
        """``[N, 1]`` distances."""
        return score_with_module(self.to_module(), rows, self.needs)

    def to_module(self) -> MahalanobisModule:
        """The fitted module."""
        if self._module is None:
            raise DataError("mahalanobis: not fitted yet.")
        return self._module

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Mean and whitening."""
        module = self.to_module()
        return {"mean": module.mean.numpy(), "whitening": module.whitening.numpy()}, {}

    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:  # noqa: ARG002
        """Take over a saved state."""
        mean, whitening = (torch.from_numpy(np.array(arrays[name])) for name in ("mean", "whitening"))
        self._module = MahalanobisModule(mean, whitening)
        return self


def _shrunk_covariance(standard: Doubles, speaks: MaskArray) -> tuple[Doubles, float]:
    """Covariance ``[D, D]`` of centred ``[N, D]`` rows, and the share of the sphere in it.

    Args:
        standard: rows of mean 0.
        speaks: ``[D]`` features that vary; the others get variance 1.
    """
    from sklearn.covariance import ledoit_wolf

    n_features = standard.shape[1]
    if len(standard) == 1:
        return np.eye(n_features), 1.0
    covariance, shrinkage = ledoit_wolf(standard, assume_centered=True)
    # Where nothing is shrunk and features depend on each other there would be no inverse.
    least = _LEAST_SHRINKAGE * float(np.trace(covariance)) / n_features
    return covariance + np.diag(np.where(speaks, least, 1.0)), float(shrinkage)


class MahalanobisModule(nn.Module):
    """``|(x - mean) W|`` with ``W W^T`` the inverse covariance.

    Args:
        mean: ``[D]`` of the majority's pooled features.
        whitening: ``[D, D]``: W.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, mean: Tensor, whitening: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("whitening", whitening)

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, None]:
        """Return ``[N, 1]`` distances; there is no map."""
        return torch.matmul(features.pooled - self.mean, self.whitening).norm(dim=1, keepdim=True), None
