"""A cosine classifier that starts at the class means: a head for classes with few images.

Source: Shi et al. 2024, "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts" (LIFT,
https://arxiv.org/abs/2309.10019): a class's logit is the cosine between an image and the class's direction,
times a scale. Lengths say nothing, so that a frequent class cannot grow longer than a rare one, and a class
with few images begins at their mean instead of at nothing. There the start matters because training is cut
short; here the head is trained to its optimum, so the ridge draws each direction to its class's mean instead
of to zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

START_SCALE = 10.0
"""Logit at a cosine of 1, where the fit starts; it is learnt."""


class CosineHead(nn.Module):
    """``logit_k = scale * cos(x, direction_k) + bias_k``.

    Attributes:
        means: ``[K, D]`` unit length: where the directions start, and what their ridge draws them to.

    Args:
        pooled_dim: D.
        n_classes: K.
    """

    means: Tensor

    def __init__(self, pooled_dim: int, n_classes: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.zeros(n_classes, pooled_dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))
        self.bias = nn.Parameter(torch.zeros(n_classes))
        self.register_buffer("means", torch.zeros(n_classes, pooled_dim))

    @torch.no_grad()
    def start_at(self, standardised: Tensor, labels: Tensor) -> None:
        """Begin at the class means of ``[N, D]`` rows, each of unit length before the mean is taken."""
        unit = nn.functional.normalize(standardised, dim=1)
        for k in range(len(self.bias)):
            self.means[k] = unit[labels == k].mean(dim=0)
        self.means.copy_(nn.functional.normalize(self.means, dim=1))
        self.direction.copy_(self.means)

    def penalty(self) -> Tensor:
        """Squared distances of directions from class means, and of the scale's logarithm from its start.

        Without the latter, classes that can be separated would let the scale grow for ever.
        """
        growth = self.log_scale - math.log(START_SCALE)
        return (self.direction - self.means).square().sum() + growth.square()

    def forward(self, standardised: Tensor) -> Tensor:
        """``[N, D]`` standardised features → ``[N, K]`` logits."""
        unit = nn.functional.normalize(standardised, dim=1)
        cosine = unit @ nn.functional.normalize(self.direction, dim=1).T
        return self.log_scale.exp() * cosine + self.bias
