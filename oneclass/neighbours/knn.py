"""kNN on pooled features: the mean distance to the nearest majority rows.

Source: Bergman, Cohen & Hoshen 2020, "Deep Nearest Neighbor Anomaly Detection"
(https://arxiv.org/abs/2002.10445), DN2: the mean distance to the k = 2 nearest training images in the
features of a network trained on ImageNet. We differ in two ways. Distances are Euclidean, not squared,
between rows scaled to unit length (on Fashion-MNIST, one class against the rest, 0.4 to 1.4 points of AUROC
better than unscaled rows). The bank is bounded; if there are more majority rows, it holds a random draw.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from contracts.files import Arrays
from contracts.member import FitContext, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import ImageRows
from features.member import ModuleMember
from features.spread import floored_spread
from features.tensors import BackboneFeatures
from oneclass.majority import drawn_rows, families_of, majority_rows
from oneclass.neighbours.nearest import NearestRows
from oneclass.neighbours.settings import KnnSettings

_LEAST_LENGTH = 1e-12


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


class Knn(ModuleMember[KnnModule]):
    """See the module's docstring. Raw scores are Euclidean distances, 0 or more."""

    name = "knn"
    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"
    needs: ClassVar[frozenset[MemberInput]] = frozenset({"pooled"})
    settings: KnnSettings

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Keep the majority rows, or as many of them as the bank holds.

        Raises:
            DataError: no majority rows.
            MemberCollapsedError: the majority rows are all alike.
        """
        majority = majority_rows(self.name, rows)
        kept = majority.subset(drawn_rows(len(majority), self.settings.bank_size, context.seed))
        pooled = torch.from_numpy(kept.pooled())
        scale = torch.ones(pooled.shape[1])
        if self.settings.pooled_scale == "standard":
            scale = torch.from_numpy(floored_spread(pooled.std(dim=0, correction=0).numpy())).float()
        module = KnnModule(self.settings, scale, to_scale(pooled, scale, self.settings))
        reference = module.nearest.reference(self.name, families_of(kept))
        self._module = module
        self._standardise(reference)
        return self

    def _saved(self, module: KnnModule) -> tuple[Arrays, dict[str, Any]]:
        """Scale and bank."""
        return {"scale": module.scale.numpy(), "bank": module.nearest.bank.numpy()}, {}

    def _load(self, arrays: Arrays, meta: dict[str, Any]) -> KnnModule:
        return self._empty_module(arrays, meta)

    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> KnnModule:  # noqa: ARG002
        # Built of the saved numbers at once: what the module keeps beside the bank is computed from it.
        scale, bank = (torch.from_numpy(np.array(arrays[name])) for name in ("scale", "bank"))
        return KnnModule(self.settings, scale, bank)


def to_scale(pooled: Tensor, scale: Tensor, settings: KnnSettings) -> Tensor:
    """``[N, D]`` pooled features on the scale that they are compared on."""
    if settings.pooled_scale == "unit_length":
        lengths: Tensor = pooled.norm(dim=1, keepdim=True)
        return pooled / lengths.clamp_min(_LEAST_LENGTH)
    return pooled / scale
