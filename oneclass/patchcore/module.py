"""PatchCore's scoring as a module: what goes into the exported graph."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import torch
from torch import Tensor, nn

from contracts.errors import ModelError
from features.tensors import BackboneFeatures
from oneclass.patchcore.nearby import FarAway
from oneclass.patchcore.patch_map import map_operator
from oneclass.patchcore.settings import PatchCoreSettings


def cells_of(patches: Tensor, neighbourhood: int) -> Tensor:
    """``[N, C, g, g]`` patch features as ``[N, P, C]`` cells, each averaged over its neighbourhood.

    The backbone already pools every layer over 3 x 3 of its own positions before it resamples them to one
    grid, as the paper does. This is an additional average on that grid; cells beyond the edge do not count.
    """
    if neighbourhood > 1:
        # count_include_pad=False: zeros beyond the edge would make border cells look unlike the others and so
        # anomalous.
        patches = nn.functional.avg_pool2d(
            patches, neighbourhood, stride=1, padding=neighbourhood // 2, count_include_pad=False
        )
    return patches.flatten(start_dim=2).transpose(1, 2)


_SLICE = 1024
"""Bank patches compared at once. For sixteen images of 256 patches and a bank of 20,480, the bracket of the
whole bank takes 335 MB, and as much again per operator; that of a slice takes 17 MB."""


class BankSlice(nn.Module):
    """A slice of a bank, with everything that depends on the bank alone precomputed.

    Args:
        bank: ``[s, k]``.
        far: which of them do not count at each of the P cells of the grid; None where all do.
    """

    minus_two_bank_and_norm: Tensor

    def __init__(self, bank: Tensor, far: FarAway | None = None) -> None:
        super().__init__()
        self.far = far
        # The extra row lets the matrix product add |b|^2. A separate addition would read and write every
        # bracket once more, which took 1.4 % of the default ensemble's time.
        weights = torch.cat([-2.0 * bank.T, (bank * bank).sum(dim=1)[None]])
        self.register_buffer("minus_two_bank_and_norm", weights.contiguous(), persistent=False)

    def forward(self, points_and_one: Tensor) -> Tensor:
        """``[…, k + 1]`` points from :func:`_with_one` → ``[…, s]`` brackets |b|^2 - 2 x.b.

        They are infinite for what is far; points are then ``[N, P, k + 1]``, of all cells.
        """
        brackets = torch.matmul(points_and_one, self.minus_two_bank_and_norm)
        if self.far is None:
            return brackets
        # Added, which is one pass over the brackets; choosing between two values takes runtimes longer.
        return brackets + torch.where(self.far(), torch.inf, 0.0)


class PatchCoreModule(nn.Module):
    """Nearest-neighbour scoring as two matrix products.

    Args:
        settings: which image score.
        mean: ``[C]`` subtracted from patches. Distances do not depend on it, but their rounding errors do:
            the matrix product subtracts numbers of the size of the squared norms, and with large features
            their difference would be lost.
        projection: ``[C, k]`` for centred patches, or None for k = C.
        bank: ``[B, k]`` majority patches, centred and projected.
        grid: cells per side of the patch grid; needed only with ``map_size``, ``map_sigma`` or ``nearby``.
        usual: ``[B]`` usual distance of normal patches from each bank patch; None: equal for all.
        scales: ``[2, 3]`` numbers of the scales of ``top_or_all``'s two means
            (:attr:`features.score_scale.ScoreScale.numbers`); None while they are not known.
        cells: ``[B]`` int64 cell of each bank patch, needed only with ``nearby``; at least one is near each
            cell of the grid.

    Raises:
        ModelError: the map is to be upsampled or smoothed, or patches are compared by place, but ``grid`` is
            None.
    """

    mean: Tensor
    projection: Tensor | None
    bank: Tensor
    usual: Tensor
    scales: Tensor
    upsampling: Tensor | None

    def __init__(
        self,
        settings: PatchCoreSettings,
        mean: Tensor,
        projection: Tensor | None,
        bank: Tensor,
        grid: int | None = None,
        usual: Tensor | None = None,
        scales: Tensor | None = None,
        cells: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.settings = settings
        self.register_buffer("mean", mean)
        self.register_buffer("projection", projection)
        self.register_buffer("bank", bank)
        self.register_buffer("usual", torch.ones(len(bank)) if usual is None else usual)
        self.register_buffer("scales", torch.ones(2, 3) if scales is None else scales)
        parts = torch.split(bank, _SLICE)
        self.widths = [len(part) for part in parts]
        self.far: FarAway | None = None
        far: list[FarAway | None] = [None] * len(parts)
        if settings.nearby is not None:
            if grid is None or cells is None:
                raise ModelError(
                    "patchcore: nearby needs the size of the patch grid and the bank's places on it, and the "
                    "saved state lacks one. Train the member again."
                )
            self.far = FarAway(cells, grid, settings.nearby)
            far = [FarAway(part, grid, settings.nearby) for part in torch.split(cells, _SLICE)]
        self.slices = nn.ModuleList(BankSlice(part, of) for part, of in zip(parts, far, strict=True))
        operator = None
        if settings.map_size is not None or settings.map_sigma > 0.0:
            if grid is None:
                raise ModelError(
                    "patchcore: map_size and map_sigma need the size of the patch grid, and the saved state "
                    "has none. Train the member again."
                )
            operator = map_operator(grid, settings.map_size or grid, settings.map_sigma)
        self.register_buffer("upsampling", operator, persistent=False)

    def projected(self, patches: Tensor) -> Tensor:
        """``[N, C, g, g]`` patch features → ``[N, P, k]`` points in the bank's space."""
        cells_NPC = cells_of(patches, self.settings.neighbourhood) - self.mean
        return cells_NPC if self.projection is None else torch.matmul(cells_NPC, self.projection)

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, Tensor]:
        """Return image scores ``[N, 1]`` and the map of distances, ``[N, g, g]`` or ``map_size``."""
        means, patch_map = self.means(features.patches)
        return self.score_of(means), patch_map

    def score_of(self, means: Tensor) -> Tensor:
        """``[N, 1]`` image scores from what :meth:`means` returns."""
        if self.settings.image_score != "top_or_all":
            return means
        offset, factor, inverse_spread = self.scales.unbind(dim=1)
        # Factor inside the logarithm: the difference of two logarithms would lose digits.
        return (((means + offset) * factor).log() * inverse_spread).amax(dim=1, keepdim=True)

    def means(self, patches: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the score is made of, and the map, of ``[N, C, g, g]`` patch features.

        Args:
            patches: of N images.
            hidden: ``[N, B]`` bool, the bank patches that do not exist for each image; None for none. With
                ``nearby``, they do exist at cells that have no other near.

        Returns:
            ``[N, 1]`` the score itself, a distance, or for ``top_or_all`` ``[N, 2]`` the mean distance of the
            farthest patches and the mean relative distance of all; and the map.
        """
        grid = patches.shape[-1]
        patches_NPk = self.projected(patches)
        # |x - b|^2 = |x|^2 + (|b|^2 - 2 x.b): the minimum over b needs only the bracket. The clamps below
        # are for copies of bank patches, whose rounding errors may lie below 0.
        patches_and_one = _with_one(patches_NPk)
        brackets = self._brackets(patches_and_one, None if hidden is None else hidden[:, None, :])
        squared = (patches_NPk * patches_NPk).sum(dim=2)
        if self.settings.image_score == "reweighted":
            # Equation 7 needs the position of the nearest patch in the whole bank, so the slices must be
            # joined.
            smallest, nearest = torch.cat(list(brackets), dim=2).min(dim=2)
            distances = (squared + smallest).clamp_min(0.0).sqrt()
            means = self._reweighted(patches_NPk, distances, nearest, hidden)[:, None]
        elif self.settings.image_score == "top_or_all":
            smallest, usual = self._nearest_and_usual(brackets)
            distances = (squared + smallest).clamp_min(0.0).sqrt()
            means = torch.stack([self._top_mean(distances), (distances / usual).mean(dim=1)], dim=1)
        else:
            if self.settings.image_score == "knn_mean":
                # A small bank may hold fewer patches than the setting asks for.
                n_neighbours = min(self.settings.neighbours, self.bank.shape[0])
                # The k smallest overall are among the k smallest of each slice.
                nearest_NPb = torch.cat([_smallest(bracket, n_neighbours) for bracket in brackets], dim=2)
                nearest_NPb = _smallest(nearest_NPb, n_neighbours)
                distances = (squared[:, :, None] + nearest_NPb).clamp_min(0.0).sqrt().mean(dim=2)
            else:
                smallest = reduce(torch.minimum, (bracket.amin(dim=2) for bracket in brackets))
                distances = (squared + smallest).clamp_min(0.0).sqrt()
            means = self._top_mean(distances)[:, None]
        patch_map = distances.reshape(-1, grid, grid)
        if self.upsampling is not None:
            patch_map = torch.matmul(torch.matmul(self.upsampling, patch_map), self.upsampling.T)
        return means, patch_map

    def _top_mean(self, distances_NP: Tensor) -> Tensor:
        """``[N]`` mean over the farthest patches: of one, a single unusual patch would decide."""
        n_top = min(self.settings.top_patches, distances_NP.shape[1])
        return distances_NP.topk(n_top, dim=1).values.mean(dim=1)

    def _nearest_and_usual(self, brackets: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
        """``[N, P]`` smallest brackets, and what is usual at the bank patch that each belongs to."""
        usual_of_slice = torch.split(self.usual, self.widths)
        smallest, nearest = next(brackets).min(dim=2)
        usual = usual_of_slice[0][nearest]
        for bracket, of_slice in zip(brackets, usual_of_slice[1:], strict=True):
            here, nearest = bracket.min(dim=2)
            usual = torch.where(here < smallest, of_slice[nearest], usual)
            smallest = torch.minimum(smallest, here)
        return smallest, usual

    def _brackets(self, points_and_one: Tensor, hidden: Tensor | None) -> Iterator[Tensor]:
        """The bracket of each slice of the bank; infinite where a bank patch is hidden."""
        parts = [None] * len(self.slices) if hidden is None else torch.split(hidden, _SLICE, dim=-1)
        has_others = None
        if hidden is not None and self.far is not None:
            # [N, P, 1]: as many bank patches of others are near as the product of 0s and 1s says.
            near_BP = (~self.far()).float().T
            has_others = ((~hidden).float() @ near_BP > 0.5).transpose(1, 2)
        for bank_slice, part in zip(self.slices, parts, strict=True):
            bracket: Tensor = bank_slice(points_and_one)
            if part is not None and has_others is not None:
                part = part & has_others  # noqa: PLW2901
            yield bracket if part is None else bracket.masked_fill(part, torch.inf)

    def _reweighted(
        self, patches_NPk: Tensor, distances: Tensor, nearest: Tensor, hidden: Tensor | None
    ) -> Tensor:
        """Equation 7: s = (1 - exp(s*) / sum over N_b(m*) of exp|m_test - m|) s*."""
        n_neighbours = min(self.settings.neighbours, self.bank.shape[0])
        farthest = distances.argmax(dim=1, keepdim=True)
        s_star = distances.gather(1, farthest)[:, 0]
        m_test = patches_NPk.gather(1, farthest[:, :, None].expand(-1, 1, patches_NPk.shape[2]))
        # The bank patch nearest to the image's farthest patch.
        m_star = self.bank[nearest.gather(1, farthest)[:, 0]]
        # N_b(m*): the bank patches nearest to m*, m* itself among them and first.
        to_star = torch.cat(list(self._brackets(_with_one(m_star), hidden)), dim=1)
        neighbours = self.bank[to_star.topk(n_neighbours, dim=1, largest=False).indices]
        to_test = (m_test - neighbours).square().sum(dim=2).sqrt()
        # exp(s*) over the sum is entry 0 of a softmax, which does not overflow for large distances.
        return (1.0 - torch.softmax(to_test, dim=1)[:, 0]) * s_star


def _with_one(points: Tensor) -> Tensor:
    """``[…, k]`` → ``[…, k + 1]`` with a last coordinate of 1."""
    return nn.functional.pad(points, (0, 1), value=1.0)


def _smallest(values_NPs: Tensor, count: int) -> Tensor:
    """``[N, P, count]`` smallest values along the last axis, or all if there are fewer."""
    width = values_NPs.shape[2]
    return values_NPs if width <= count else values_NPs.topk(count, dim=2, largest=False).values
