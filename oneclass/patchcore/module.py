"""PatchCore's scoring as a module: what goes into the exported graph."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn

from contracts.errors import ModelError
from features.tensors import BackboneFeatures
from oneclass.patchcore.patch_map import map_operator
from oneclass.settings import PatchCoreSettings


def cells_of(patches: Tensor, neighbourhood: int) -> Tensor:
    """``[N, C, g, g]`` patch features as ``[N, P, C]`` cells, each the mean of its neighbourhood.

    The backbone has pooled every layer over 3 x 3 of its own positions before they came onto one grid, as
    the paper does. This is beyond that, on the grid; cells beyond the edge do not count.
    """
    if neighbourhood > 1:
        patches = nn.functional.avg_pool2d(
            patches, neighbourhood, stride=1, padding=neighbourhood // 2, count_include_pad=False
        )
    return patches.flatten(start_dim=2).transpose(1, 2)


_SLICE = 1024
"""Bank patches compared at once. With the whole bank, the bracket of sixteen images of 256 patches and a bank
of 20,480 takes 335 MB, and as much again for each operator's result; a slice's takes 17 MB."""


class BankSlice(nn.Module):
    """Some of a bank's patches, with what depends on them alone.

    Args:
        bank: ``[s, k]``.
    """

    minus_two_bank_and_norm: Tensor

    def __init__(self, bank: Tensor) -> None:
        super().__init__()
        # One row more, by which the matrix product adds |b|^2: an addition of its own would read and write
        # every bracket once more, 1.4 % of the time of the default ensemble.
        weights = torch.cat([-2.0 * bank.T, (bank * bank).sum(dim=1)[None]])
        self.register_buffer("minus_two_bank_and_norm", weights.contiguous(), persistent=False)

    def forward(self, points_and_one: Tensor) -> Tensor:
        """``[…, k + 1]`` points as :func:`_with_one` gives them → ``[…, s]`` brackets, |b|^2 - 2 x.b."""
        return torch.matmul(points_and_one, self.minus_two_bank_and_norm)


class PatchCoreModule(nn.Module):
    """Nearest-neighbour scoring as two matrix products.

    Args:
        settings: which image score.
        mean: ``[C]`` subtracted from patches. Distances do not depend on it, but their rounding does: the
            matrix product subtracts numbers as large as the squared norms, and backbones with large features
            would lose the difference between them.
        projection: ``[C, k]`` for centred patches, or None for k = C.
        bank: ``[B, k]`` majority patches, centred and projected.
        grid: cells a side of the patch grid; only ``map_size`` and ``map_sigma`` need it.

    Raises:
        ModelError: the map is to be upsampled or smoothed, and nobody said from what.
    """

    mean: Tensor
    projection: Tensor | None
    bank: Tensor
    upsampling: Tensor | None

    def __init__(
        self,
        settings: PatchCoreSettings,
        mean: Tensor,
        projection: Tensor | None,
        bank: Tensor,
        grid: int | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.settings = settings
        self.register_buffer("mean", mean)
        self.register_buffer("projection", projection)
        self.register_buffer("bank", bank)
        self.slices = nn.ModuleList(BankSlice(part) for part in torch.split(bank, _SLICE))
        operator = None
        if settings.map_size is not None or settings.map_sigma > 0.0:
            if grid is None:
                raise ModelError("patchcore: the state says no grid to upsample the map from. Train it anew.")
            operator = map_operator(grid, settings.map_size or grid, settings.map_sigma)
        self.register_buffer("upsampling", operator, persistent=False)

    def projected(self, patches: Tensor) -> Tensor:
        """``[N, C, g, g]`` patch features → ``[N, P, k]`` points of the space that the bank lies in."""
        cells_NPC = cells_of(patches, self.settings.neighbourhood) - self.mean
        return cells_NPC if self.projection is None else torch.matmul(cells_NPC, self.projection)

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, Tensor]:
        """Return image scores ``[N, 1]`` and the map ``[N, g, g]`` (or ``map_size``), both distances."""
        grid = features.patches.shape[-1]
        patches_NPk = self.projected(features.patches)
        # |x - b|^2 = |x|^2 + (|b|^2 - 2 x.b): the minimum over b needs the bracket alone.
        patches_and_one = _with_one(patches_NPk)
        brackets = (part(patches_and_one) for part in self.slices)
        squared = (patches_NPk * patches_NPk).sum(dim=2)
        if self.settings.image_score == "reweighted":
            smallest, nearest = torch.cat(list(brackets), dim=2).min(dim=2)
            distances = (squared + smallest).clamp_min(0.0).sqrt()
            score = self._reweighted(patches_NPk, distances, nearest)
        else:
            if self.settings.image_score == "knn_mean":
                n_neighbours = min(self.settings.neighbours, self.bank.shape[0])
                nearest_NPb = torch.cat([_smallest(bracket, n_neighbours) for bracket in brackets], dim=2)
                nearest_NPb = _smallest(nearest_NPb, n_neighbours)
                distances = (squared[:, :, None] + nearest_NPb).clamp_min(0.0).sqrt().mean(dim=2)
            else:
                smallest = reduce(torch.minimum, (bracket.amin(dim=2) for bracket in brackets))
                distances = (squared + smallest).clamp_min(0.0).sqrt()
            n_top = min(self.settings.top_patches, distances.shape[1])
            score = distances.topk(n_top, dim=1).values.mean(dim=1)
        patch_map = distances.reshape(-1, grid, grid)
        if self.upsampling is not None:
            patch_map = torch.matmul(torch.matmul(self.upsampling, patch_map), self.upsampling.T)
        return score[:, None], patch_map

    def _reweighted(self, patches_NPk: Tensor, distances: Tensor, nearest: Tensor) -> Tensor:
        """Equation 7: s = (1 - exp(s*) / sum over N_b(m*) of exp|m_test - m|) s*."""
        n_neighbours = min(self.settings.neighbours, self.bank.shape[0])
        farthest = distances.argmax(dim=1, keepdim=True)
        s_star = distances.gather(1, farthest)[:, 0]
        m_test = patches_NPk.gather(1, farthest[:, :, None].expand(-1, 1, patches_NPk.shape[2]))
        m_star = self.bank[nearest.gather(1, farthest)[:, 0]]
        # N_b(m*): the bank patches nearest to m*, itself among them.
        star_and_one = _with_one(m_star)
        to_star = torch.cat([part(star_and_one) for part in self.slices], dim=1)
        neighbours = self.bank[to_star.topk(n_neighbours, dim=1, largest=False).indices]
        to_test = (m_test - neighbours).square().sum(dim=2).sqrt()
        return (1.0 - torch.softmax(to_test, dim=1)[:, 0]) * s_star


def _with_one(points: Tensor) -> Tensor:
    """``[…, k]`` → ``[…, k + 1]``, the last of them 1."""
    return nn.functional.pad(points, (0, 1), value=1.0)


def _smallest(values_NPs: Tensor, count: int) -> Tensor:
    """``[N, P, count]`` smallest of the last axis, or all where there are fewer."""
    width = values_NPs.shape[2]
    return values_NPs if width <= count else values_NPs.topk(count, dim=2, largest=False).values
