"""Losses over logits, each the per-row form, so that weights and reductions stay in one place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supervised.settings import LossName


def class_weights(labels: Tensor, n_classes: int) -> Tensor:
    """Inverse-frequency weights ``[K]``, scaled so that the mean weight over the rows is 1.

    Args:
        labels: ``[N]`` int64 class indices with every class present.
        n_classes: K.
    """
    counts = torch.bincount(labels, minlength=n_classes).float()
    return counts.sum() / (n_classes * counts)


def row_losses(
    name: LossName, logits: Tensor, labels: Tensor, weights: Tensor | None = None, gamma: float = 2.0
) -> Tensor:
    """``[N]`` loss of every row.

    Args:
        name: ``cross_entropy``; ``weighted_cross_entropy`` (times the weight of the row's class);
            ``focal`` (Lin et al. 2017, equation 4: (1 - p_t)^gamma times cross-entropy).
        logits: ``[N, K]``.
        labels: ``[N]`` int64.
        weights: ``[K]``, for ``weighted_cross_entropy``.
        gamma: focusing exponent of ``focal``, 0 or more; 0 is cross-entropy.
    """
    cross_entropy = nn.functional.cross_entropy(logits, labels, reduction="none")
    if name == "weighted_cross_entropy":
        if weights is None:
            raise ValueError("weighted_cross_entropy needs class weights")
        return cross_entropy * weights[labels]
    if name == "focal":
        # 1 - p_t by expm1 keeps its digits near 0; at 0 itself a power below 1 has no finite slope.
        p_other = (-torch.expm1(-cross_entropy)).clamp_min(torch.finfo(cross_entropy.dtype).tiny)
        return p_other.pow(gamma) * cross_entropy
    return cross_entropy
