"""A patch map upsampled and smoothed for display, as two matrix products.

Bilinear upsampling and a Gaussian blur are separable and treat rows and columns alike. So both together are
``A @ map @ A.T`` with one small matrix, and the exported graph needs no image operators.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=8)
def map_operator(grid: int, size: int, sigma: float) -> Tensor:
    """``[size, grid]`` float32: bilinear upsampling, then a Gaussian blur normalised at the edges.

    Args:
        grid: cells per side.
        size: pixels per side of the result.
        sigma: of the blur in pixels of the result; 0 for none. Weights are normalised over the pixels inside
            the map, so a constant map stays constant.
    """
    # Upsampling the identity yields the operator's matrix, by torch's own definition of bilinear and not by
    # ours.
    cells = torch.eye(grid, dtype=torch.float64)[None, None]
    upsampling = torch.nn.functional.interpolate(cells, size=(size, grid), mode="bilinear")[0, 0]
    if sigma > 0.0:
        places = torch.arange(size, dtype=torch.float64)
        # All pixels of the map, not a cut-off kernel: the matrix is small, and nothing needs padding.
        blur = torch.exp(-0.5 * ((places[:, None] - places[None, :]) / sigma).square())
        upsampling = (blur / blur.sum(dim=1, keepdim=True)) @ upsampling
    return upsampling.float()
