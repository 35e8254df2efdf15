"""Which patches of new normal images a finished bank lacks: greedy k-centre selection, continued.

After greedy selection the patches of a bank lie at least R apart, and every candidate lies within R of one of
them. R, the cover radius, is the distance at which the last patch was taken. New images are added by
continuing greedily, farthest patch first, until they lie within R, too. So an image like the training images
adds nothing, one that is normal in a new way adds the few patches that make it different, and the bank never
becomes denser than it was.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK_ROWS = 8192


def cover_radius_of(bank: Tensor) -> float:
    """R: the smallest distance between two patches of a bank; 0 for a bank of one patch.

    Args:
        bank: ``[B, k]`` float32, chosen by :func:`oneclass.patchcore.coreset.k_center_greedy`.
    """
    # The bank was selected greedily, so the smallest distance within it is the one at which the last patch
    # was taken.
    return 0.0 if len(bank) < 2 else float(_to_nearest(bank, bank, is_own=True).min())


def patches_to_add(bank: Tensor, patches: Tensor) -> Tensor:
    """Positions ``[n]`` int64 of the patches that the bank lacks, in the order in which greedy takes them.

    Args:
        bank: ``[B, k]`` float32.
        patches: ``[P, k]`` of new normal images, projected like the bank.
    """
    radius = cover_radius_of(bank)
    nearest = _to_nearest(patches, bank)
    added: list[int] = []
    while True:
        farthest = int(nearest.argmax())
        # Stops at the radius of the bank as trained, not of the grown one, which would shrink with every
        # update.
        if float(nearest[farthest]) <= radius:
            return torch.tensor(added, dtype=torch.int64)
        added.append(farthest)
        torch.minimum(nearest, (patches - patches[farthest]).norm(dim=1), out=nearest)


def _to_nearest(points: Tensor, bank: Tensor, is_own: bool = False) -> Tensor:
    """``[P]`` distances to the nearest bank patch; with ``is_own``, from each to the nearest other.

    A matrix product finds which patch is nearest. Its rounding errors are as large as small distances, so the
    distance itself is computed from the difference, which is 0 for a copy.
    """
    found = []
    half_norms = (bank * bank).sum(dim=1) / 2.0
    for start in range(0, len(points), _BLOCK_ROWS):
        block = points[start : start + _BLOCK_ROWS]
        # x.b - |b|^2 / 2 is largest where |x - b|^2 is smallest.
        closeness = torch.addmm(half_norms, block, bank.T, beta=-1.0)
        if is_own:
            own = torch.arange(len(block))
            closeness[own, start + own] = float("-inf")
        found.append((block - bank[closeness.argmax(dim=1)]).norm(dim=1))
    return torch.cat(found)
