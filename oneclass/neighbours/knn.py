"""kNN on pooled features: mean distance to the nearest majority rows.

Source: Bergman, Cohen & Hoshen 2020, "Deep Nearest Neighbor Anomaly Detection"
(https://arxiv.org/abs/2002.10445), DN2: the mean distance to the k = 2 nearest training images in the
features of a network trained on ImageNet. Where we differ: Euclidean distances, not their squares, of rows
brought to unit length (on Fashion-MNIST, one class against the rest, 0.4 to 1.4 points of AUROC better than
as they are), and a bank of bounded size, drawn at random where there are more majority rows.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from contracts.errors import DataError
from contracts.files import Arrays
from contracts.member import FitContext, Member, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows, majority_positions
from features.apply import score_with_module
from features.tensors import BackboneFeatures
from oneclass.neighbours.nearest import NearestRows, drawn_rows
from oneclass.settings import KnnSettings

_LEAST_STD = 1e-6
_LEAST_LENGTH = 1e-12


class Knn(Member):
    """See the module's docstring. Scores are Euclidean distances, 0 or more."""

    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"

    def __init__(self, settings: KnnSettings) -> None:
        self.settings = settings
        self._module: KnnModule | None = None

    @property
    def needs(self) -> frozenset[MemberInput]:
        """Pooled features only."""
        return frozenset({"pooled"})

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Keep the majority rows, or as many of them as the bank holds.

        Raises:
            DataError: no majority rows.
            MemberCollapsedError: the majority rows are all alike.
        """
        majority = majority_positions(rows)
        if len(majority) == 0:
            raise DataError("knn: no majority images to learn from. Check the labels.")
        kept = majority[drawn_rows(len(majority), self.settings.bank_size, context.seed)]
        pooled = torch.from_numpy(rows.subset(kept).pooled())
        scale = torch.ones(pooled.shape[1])
        if self.settings.pooled_scale == "standard":
            std = pooled.std(dim=0, correction=0)
            # A feature that is silent on the majority keeps its own scale, so that it drowns no others.
            scale = torch.where(std > _LEAST_STD, std, torch.ones_like(std))
        module = KnnModule(self.settings, scale, to_scale(pooled, scale, self.settings))
        module.nearest.require_distinct("knn")
        self._module = module
        return self

    def score(self, rows: ImageRows) -> FloatArray:
        """``[N, 1]`` distances."""
        return score_with_module(self.to_module(), rows, self.needs)

    def to_module(self) -> KnnModule:
        """The fitted module."""
        if self._module is None:
            raise DataError("knn: not fitted yet.")
        return self._module

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Scale and bank."""
        module = self.to_module()
        return {"scale": module.scale.numpy(), "bank": module.nearest.bank.numpy()}, {}

    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:  # noqa: ARG002
        """Take over a saved state."""
        scale, bank = (torch.from_numpy(np.array(arrays[name])) for name in ("scale", "bank"))
        self._module = KnnModule(self.settings, scale, bank)
        return self


def to_scale(pooled: Tensor, scale: Tensor, settings: KnnSettings) -> Tensor:
    """``[N, D]`` pooled features as they are compared."""
    if settings.pooled_scale == "unit_length":
        lengths: Tensor = pooled.norm(dim=1, keepdim=True)
        return pooled / lengths.clamp_min(_LEAST_LENGTH)
    return pooled / scale


class KnnModule(nn.Module):
    """Pooled features to scores.

    Args:
        settings: how features are scaled; k.
        scale: ``[D]`` that features are divided by.
        bank: ``[B, D]`` majority rows, scaled.
    """

    scale: Tensor

    def __init__(self, settings: KnnSettings, scale: Tensor, bank: Tensor) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("scale", scale)
        self.nearest = NearestRows(bank, settings.neighbours)

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, None]:
        """Return ``[N, 1]`` distances; there is no map."""
        return self.nearest(to_scale(features.pooled, self.scale, self.settings))[:, None], None
