"""Weights and margins per class, from class counts alone."""

from __future__ import annotations

import torch
from torch import Tensor

from contracts.errors import UsageError


def inverse_frequency_weights(counts: Tensor) -> Tensor:
    """``[K]`` weights N / (K n_k): the mean weight over rows is 1; all classes have equal total weight.

    Args:
        counts: ``[K]`` rows per class, all at least 1.
    """
    counts = counts.float()
    return counts.sum() / (len(counts) * counts)


def effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    """``[K]`` weights (1 - beta) / (1 - beta^n_k), scaled so that the mean weight over the rows is 1.

    They lie between no weights (beta = 0) and inverse frequency (beta towards 1): beyond 1 / (1 - beta) rows,
    further rows of a class add little. Source: Cui et al. 2019 (https://arxiv.org/abs/1901.05555).

    Args:
        counts: ``[K]`` rows per class.
        beta: in [0, 1).
    """
    # Double: 1 - beta^n for a beta near 1 loses most of its digits in single precision.
    counts = counts.double()
    weights = (1.0 - beta) / (1.0 - torch.pow(torch.tensor(beta, dtype=torch.double), counts))
    return (weights * counts.sum() / (weights * counts).sum()).float()


def explicit_weights(counts: Tensor, ratios: tuple[float, ...]) -> Tensor:
    """``[K]`` weights in the given ratios, scaled so that the mean weight over the rows is 1.

    Args:
        counts: ``[K]`` rows per class.
        ratios: one positive number per class, in class order (minority last), such as ``(1, 10)``.

    Raises:
        UsageError: there is not one number per class.
    """
    if len(ratios) != len(counts):
        raise UsageError(
            f"weights: got {len(ratios)} numbers for {len(counts)} classes. "
            "Give one per class, the minority's last, such as -o members.NAME.weights=[1,10]."
        )
    weights = torch.tensor(ratios, dtype=torch.float32)
    counts = counts.float()
    return weights * counts.sum() / (weights * counts).sum()


def ldam_margins(counts: Tensor, largest: float) -> Tensor:
    """``[K]`` margins C / n_k^(1/4), with C such that the rarest class's margin is ``largest``.

    Source: Cao et al. 2019, LDAM (https://arxiv.org/abs/1906.07413).

    Args:
        counts: ``[K]`` rows per class.
        largest: margin of the rarest class, in logit units.
    """
    raw = counts.float().pow(-0.25)
    return raw * (largest / raw.max())
