"""KL and MMD beside slow obvious versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from supervised.synthetic.regularisers import kl_to_standard_normal, mmd


def test_kl_is_that_of_torchs_distributions():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(7, 3), torch.randn(7, 3)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    slow = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(dim=1).mean()
    assert float(kl_to_standard_normal(mean, log_variance)) == pytest.approx(float(slow), rel=1e-5)
    assert float(kl_to_standard_normal(torch.zeros(4, 3), torch.zeros(4, 3))) == 0.0


def slow_mmd(codes, prior, sigma):
    n, dim = codes.shape
    scale = 2 * dim * sigma**2

    def kernel(one, other):
        return scale / (scale + sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))

    total = 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                total += (kernel(codes[i], codes[j]) + kernel(prior[i], prior[j])) / (n * (n - 1))
            total -= 2 * kernel(codes[i], prior[j]) / n**2
    return total


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_mmd_is_the_double_sum(sigma):
    rng = np.random.default_rng(0)
    codes, prior = 1.0 + rng.normal(size=(9, 4)), sigma * rng.normal(size=(9, 4))
    fast = mmd(torch.from_numpy(codes), torch.from_numpy(prior), sigma)
    assert float(fast) == pytest.approx(slow_mmd(codes, prior, sigma), abs=1e-5)


def test_mmd_is_unbiased_and_grows_with_the_distance():
    torch.manual_seed(0)
    alike = [float(mmd(torch.randn(20, 5), torch.randn(20, 5))) for _ in range(200)]
    assert abs(np.mean(alike)) < 3 * np.std(alike) / np.sqrt(200)
    assert min(alike) < 0
    near, far = (float(mmd(shift + torch.randn(20, 5), torch.randn(20, 5))) for shift in (1.0, 3.0))
    assert 0 < near < far
