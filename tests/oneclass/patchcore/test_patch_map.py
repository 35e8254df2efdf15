"""The map's one matrix does what upsampling and a blur do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from oneclass.patchcore.patch_map import map_operator


def upsampled(patch_map, size):
    return torch.nn.functional.interpolate(patch_map[None, None], size=(size, size), mode="bilinear")[0, 0]


def slow_blur(image, sigma):
    """A Gaussian mean of the pixels that exist, one pixel at a time."""
    size = len(image)
    blurred = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            total = weights = 0.0
            for i in range(size):
                for j in range(size):
                    weight = math.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * sigma**2))
                    total += weight * float(image[i, j])
                    weights += weight
            blurred[row, column] = total / weights
    return blurred


@pytest.mark.parametrize(("grid", "size"), [(3, 3), (4, 11), (7, 14), (9, 5)])
def test_upsampling_is_bilinear(grid, size):
    patch_map = torch.rand(grid, grid, generator=torch.Generator().manual_seed(0))
    operator = map_operator(grid, size, 0.0)
    torch.testing.assert_close(operator @ patch_map @ operator.T, upsampled(patch_map, size))


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_blur_is_gaussian(sigma):
    patch_map = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    operator = map_operator(4, 10, sigma)
    expected = slow_blur(upsampled(patch_map, 10), sigma)
    np.testing.assert_allclose(operator @ patch_map @ operator.T, expected, rtol=1e-4)


def test_a_constant_map_stays_constant():
    operator = map_operator(5, 31, 4.0)
    torch.testing.assert_close(operator @ torch.full((5, 5), 3.0) @ operator.T, torch.full((31, 31), 3.0))
