"""Which patches of new normal images a finished bank lacks: greedy k-centre selection, continued.

After greedy selection the patches of a bank lie at least R apart, and every candidate lies within R of one of
them. R, the cover radius, is the distance at which the last patch was taken. New images are added by
continuing greedily, farthest patch first, until they lie within R, too. So an image like the training images
adds nothing, one that is normal in a new way adds the few patches that make it different, and the bank never
becomes denser than it was. Where patches are compared by place, R is that of the parts of the picture, and a
new patch must lie within R of a bank patch near it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from oneclass.patchcore.nearby import Places

_BLOCK_ROWS = 8192


class Cells(NamedTuple):
    """Where patches lie, if they are compared by place.

    Attributes:
        places: which cells are near each other.
        of_bank: ``[B]`` int64.
        of_patches: ``[P]`` int64 of the new patches.
    """

    places: Places
    of_bank: Tensor
    of_patches: Tensor


def cover_radius_of(bank: Tensor, cells: Cells | None = None) -> float:
    """R: the smallest distance between two patches of a bank; 0 for a bank of one patch.

    Args:
        bank: ``[B, k]`` float32, chosen by :func:`oneclass.patchcore.coreset.k_center_greedy`, or with
            ``cells`` by :func:`oneclass.patchcore.nearby.greedy_by_part`.
        cells: None where places do not matter; else only patches of one part of the picture make pairs.
    """
    if len(bank) < 2:
        return 0.0
    apart = None
    if cells is not None:
        parts = torch.from_numpy(cells.places.part_of_cells(cells.of_bank.numpy()))

        def apart(rows: slice) -> Tensor:
            return parts[rows, None] != parts

    # The bank was selected greedily, so the smallest distance within it is the one at which the last patch
    # was taken.
    least = float(_to_nearest(bank, bank, apart, is_own=True).min())
    # Infinite where no part has two.
    return least if least < torch.inf else 0.0


def patches_to_add(bank: Tensor, patches: Tensor, cells: Cells | None = None) -> Tensor:
    """Positions ``[n]`` int64 of the patches that the bank lacks, in the order in which greedy takes them.

    Args:
        bank: ``[B, k]`` float32.
        patches: ``[P, k]`` of new normal images, projected like the bank.
        cells: None where places do not matter.
    """
    radius = cover_radius_of(bank, cells)
    apart = None
    if cells is not None:
        places, of_bank, of_patches = cells

        def apart(rows: slice) -> Tensor:
            return places.are_apart(of_patches[rows], of_bank)

    nearest = _to_nearest(patches, bank, apart)
    added: list[int] = []
    while True:
        farthest = int(nearest.argmax())
        # Stops at the radius of the bank as trained, not of the grown one, which would shrink with every
        # update.
        if float(nearest[farthest]) <= radius:
            return torch.tensor(added, dtype=torch.int64)
        added.append(farthest)
        to_new = (patches - patches[farthest]).norm(dim=1)
        if cells is not None:
            to_new.masked_fill_(places.are_apart(of_patches, of_patches[[farthest]])[:, 0], torch.inf)
        torch.minimum(nearest, to_new, out=nearest)


def _to_nearest(
    points: Tensor, bank: Tensor, apart: Callable[[slice], Tensor] | None, is_own: bool = False
) -> Tensor:
    """``[P]`` distances to the nearest bank patch; with ``is_own``, from each to the nearest other.

    A matrix product finds which patch is nearest. Its rounding errors are as large as small distances, so the
    distance itself is computed from the difference, which is 0 for a copy.

    Args:
        points: ``[P, k]``.
        bank: ``[B, k]``.
        apart: rows of the points → ``[n, B]`` bool, what they are not compared with; None where there is
            nothing. A point that is compared with none is infinitely far.
        is_own: whether the points are the bank.
    """
    found = []
    half_norms = (bank * bank).sum(dim=1) / 2.0
    for start in range(0, len(points), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        block = points[rows]
        # x.b - |b|^2 / 2 is largest where |x - b|^2 is smallest.
        closeness = torch.addmm(half_norms, block, bank.T, beta=-1.0)
        if apart is not None:
            closeness.masked_fill_(apart(rows), -torch.inf)
        if is_own:
            own = torch.arange(len(block))
            closeness[own, start + own] = float("-inf")
        largest, nearest = closeness.max(dim=1)
        distance = (block - bank[nearest]).norm(dim=1)
        found.append(distance.masked_fill_(largest == -torch.inf, torch.inf))
    return torch.cat(found)
