"""Regularisers that pull an autoencoder's codes towards a standard normal: the VAE's KL, the WAE's MMD."""

from __future__ import annotations

import torch
from torch import Tensor


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean over rows of KL(N(mean, variance) || N(0, 1)), summed over the code, in nats.

    Source: Kingma & Welling 2013 (https://arxiv.org/abs/1312.6114), appendix B.

    Args:
        mean: ``[N, d]`` of the posterior.
        log_variance: ``[N, d]`` of the posterior.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1).mean()


def mmd(codes: Tensor, prior: Tensor, sigma: float = 1.0) -> Tensor:
    """Unbiased squared maximum mean discrepancy between codes and draws of the prior.

    The kernel is the inverse multiquadric C / (C + distance^2) with C = 2 d sigma^2, the expected squared
    distance of two draws. Because the estimate is unbiased, it may lie slightly below 0. Source: Tolstikhin
    et al. 2018, WAE (https://arxiv.org/abs/1711.01558), algorithm 2.

    Args:
        codes: ``[N, d]``, N at least 2.
        prior: ``[N, d]`` draws of N(0, sigma^2).
        sigma: of the prior.
    """
    n, dim = codes.shape
    scale = 2.0 * dim * sigma * sigma
    # Squared distances are differences of large squares, of which half precision would leave little.
    with torch.autocast(codes.device.type, enabled=False):
        among_codes, among_prior, across = (
            scale / (scale + _squared_distances(one.float(), other.float()))
            for one, other in ((codes, codes), (prior, prior), (codes, prior))
        )
    # Unbiased: a row's kernel with itself is always 1 and would shift the estimate, so diagonals are
    # excluded.
    within = sum(kernel.sum() - kernel.diagonal().sum() for kernel in (among_codes, among_prior))
    return within / (n * (n - 1)) - 2.0 * across.mean()


def _squared_distances(one: Tensor, other: Tensor) -> Tensor:
    """``[N, M]`` squared Euclidean distances."""
    squares = one.square().sum(dim=1)[:, None] + other.square().sum(dim=1)[None, :]
    return (squares - 2.0 * (one @ other.T)).clamp_min(0.0)
