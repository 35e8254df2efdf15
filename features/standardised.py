"""A member's module with its score on the scale of :mod:`features.score_scale`: what is exported."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from features.score_scale import ScoreScale
from features.tensors import BackboneFeatures


class StandardisedModule(nn.Module):
    """The raw module, then ``(g(raw) - location) / spread``. The map stays in units of the raw score.

    Args:
        raw: ``forward(features) -> (raw scores [N, 1], map [N, g, g] | None)``.
        scale: where to.
    """

    offset: Tensor
    factor: Tensor
    location: Tensor
    rest: Tensor
    inverse_spread: Tensor

    def __init__(self, raw: nn.Module, scale: ScoreScale) -> None:
        super().__init__()
        self.raw = raw
        self.is_log = scale.offset is not None
        # log(x + offset) - location = log((x + offset) / exp(location)): the ratio keeps the digits that the
        # difference of two large logarithms would lose.
        location = 0.0 if self.is_log else scale.location
        numbers = {
            "offset": scale.offset or 0.0,
            "factor": float(np.exp(-scale.location)) if self.is_log else 1.0,
            "location": location,
            # The part of the location that float32 cannot hold; it is subtracted second.
            "rest": location - float(np.float32(location)),
            "inverse_spread": 1.0 / scale.spread,
        }
        for name, number in numbers.items():
            self.register_buffer(name, torch.tensor(number, dtype=torch.float32))

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, Tensor | None]:
        """Return standardised scores ``[N, 1]`` and the raw module's map."""
        scores, score_map = self.raw(features)
        return self.standardised(scores), score_map

    def standardised(self, scores: Tensor) -> Tensor:
        """Raw scores, of any shape, on the scale."""
        if self.is_log:
            centred = torch.log((scores.clamp_min(0.0) + self.offset) * self.factor)
        else:
            centred = (scores - self.location) - self.rest
        return centred * self.inverse_spread
