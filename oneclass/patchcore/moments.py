"""Mean and covariance of points that arrive block by block, and PCA from them.

Blocks are merged as in Chan, Golub & LeVeque (1979): each contributes its own mean and centred squares, so
large numbers are never subtracted from each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Directions with less than this share of the largest variance hold only the rounding noise of half-precision
# features. Whitening would amplify it, so it divides by no less.
_LEAST_VARIANCE = 1e-5


class Moments:
    """Running mean and covariance of C coordinates; C x C numbers of memory, whatever the number of points.

    Args:
        n_channels: C.
    """

    def __init__(self, n_channels: int) -> None:
        self.count = 0
        self.mean = torch.zeros(n_channels, dtype=torch.float64)
        self._squares = torch.zeros(n_channels, n_channels, dtype=torch.float64)

    def add(self, points: Tensor) -> None:
        """Add ``[n, C]`` points."""
        n = len(points)
        mean = points.mean(dim=0, dtype=torch.float64)
        # Centred before the product, so that float32 suffices for it; only the sums need float64.
        centred = points - mean.to(points.dtype)
        # Chan et al.'s update: the squares between the two means are added once per block.
        shift = mean - self.mean
        total = self.count + n
        self._squares += (centred.T @ centred).double()
        self._squares += torch.outer(shift, shift) * (self.count * n / total)
        self.mean += shift * (n / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """``[C, C]`` float64, divided by the number of points."""
        return self._squares / self.count

    def projection(self, dim: int | None, whiten: bool, shrinkage: float = 0.0) -> Tensor | None:
        """PCA projection ``[C, k]`` float32 of centred points; None if points stay as they are.

        Args:
            dim: k. None, or C or more, keeps all directions.
            whiten: divide each direction by its standard deviation.
            shrinkage: 0…1, for whitening: each variance becomes ``(1 - shrinkage)`` of itself and
                ``shrinkage`` of the mean variance.
        """
        n_channels = len(self.mean)
        keeps_all = dim is None or dim >= n_channels
        if keeps_all and not whiten:
            return None
        # eigh gives ascending order, and exact orthogonality that a general eigensolver would not.
        variances, axes = torch.linalg.eigh(self.covariance)
        kept = n_channels if keeps_all else dim
        variances, axes = variances.flip(0)[:kept], axes.flip(1)[:, :kept]  # largest first
        if whiten and float(variances[0]) > 0.0:
            # The trace is the sum of all variances, whichever directions are kept.
            typical = float(self.covariance.trace()) / n_channels
            shrunk = (1.0 - shrinkage) * variances + shrinkage * typical
            axes = axes / shrunk.clamp_min(_LEAST_VARIANCE * float(variances[0])).sqrt()
        projection: Tensor = axes.float().contiguous()
        return projection
