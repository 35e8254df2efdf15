"""Which patches of new normal images a finished bank needs: greedy k-centre selection, continued.

Greedy selection leaves a bank whose patches lie at least R apart while every patch it was chosen from
lies within R of one: R, its cover radius, is the distance at which the last patch was taken. New images
are taken in by going on as greedy would, farthest patch first, until they too lie within R. So an image
like the training images adds nothing, one that is normal in a new way adds the few patches that say so,
and the bank never grows denser than it was.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK_ROWS = 8192


def cover_radius_of(bank: Tensor) -> float:
    """R: the smallest distance between two different patches of a bank; 0 for a bank of one.

    Args:
        bank: ``[B, k]`` float32, chosen by :func:`oneclass.patchcore.coreset.k_center_greedy`.
    """
    return 0.0 if len(bank) < 2 else float(_to_nearest(bank, bank, is_own=True).min())


def patches_to_add(bank: Tensor, patches: Tensor) -> Tensor:
    """Positions ``[n]`` int64 of the patches that the bank lacks, in the order greedy takes them.

    Args:
        bank: ``[B, k]`` float32.
        patches: ``[P, k]`` of new normal images, projected as the bank is.
    """
    radius = cover_radius_of(bank)
    nearest = _to_nearest(patches, bank)
    added: list[int] = []
    while True:
        farthest = int(nearest.argmax())
        if float(nearest[farthest]) <= radius:
            return torch.tensor(added, dtype=torch.int64)
        added.append(farthest)
        torch.minimum(nearest, (patches - patches[farthest]).norm(dim=1), out=nearest)


def _to_nearest(points: Tensor, bank: Tensor, is_own: bool = False) -> Tensor:
    """``[P]`` distances to the nearest bank patch; to the nearest other one where ``points`` is the bank.

    Which patch is nearest is found by a matrix product, whose rounding is as large as small distances;
    the distance to it is then taken by difference, so that a copy is at 0.
    """
    found = []
    half_norms = (bank * bank).sum(dim=1) / 2.0
    for start in range(0, len(points), _BLOCK_ROWS):
        block = points[start : start + _BLOCK_ROWS]
        closeness = torch.addmm(half_norms, block, bank.T, beta=-1.0)
        if is_own:
            own = torch.arange(len(block))
            closeness[own, start + own] = float("-inf")
        found.append((block - bank[closeness.argmax(dim=1)]).norm(dim=1))
    return torch.cat(found)
