"""How far normal patches usually lie from each patch of a bank: what makes distances comparable.

Majorities are rarely one thing. Around bank patches of a rough texture normal patches lie far away, around
those of a smooth one near, and a distance means little before it is divided by what is usual at its place.
So each bank patch b has a usual distance, taken from the training patches that b is the nearest to:

    u_b = sqrt((U + sum of their squared distances) / (1 + their number)),

where U is the mean of the squares over all of them: as if one more patch lay at the typical distance, which
decides where b is nearest to none. A training patch is compared with patches of other images only (of other
groups, where there are), because a new image has none of its own in the bank.

The image score ``top_or_all`` asks two questions. Is some place odd? The mean of the farthest few distances
tells; dividing them would hide a defect beside a rough patch. Is the image odd as a whole? The mean of all
relative distances tells. Each is put on the scale of normal images, and the larger one counts.

Sources: the distances of neighbours' neighbours as a unit are those of the local outlier factor (Breunig et
al. 2000); SoftPatch (Jiang et al. 2022, https://arxiv.org/abs/2403.14233) weighs a bank's patches by it. Ours
differs in what it divides, and in that it knows the training patches, which a bank of farthest points does
not stand for. Measured in docs/results/patchcore.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from contracts.rows import IndexArray

_BLOCK_ROWS = 4096
_MOST_POINTS = 30_000
"""Training patches that are compared: 30 to each patch of a bank of 1,000."""


def usual_distances(
    points: Tensor,
    family_of_point: IndexArray,
    bank: Tensor,
    family_of_bank: IndexArray,
    apart: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """``[B]`` float32 usual distance from each bank patch, > 0.

    Args:
        points: ``[P, k]`` training patches, projected like the bank.
        family_of_point: ``[P]`` number of each patch's family (:func:`oneclass.majority.families_of`).
        bank: ``[B, k]``.
        family_of_bank: ``[B]`` likewise.
        apart: positions ``[n]`` of points → ``[n, B]`` bool, bank patches that they are not compared with;
            None where there are none.
    """
    chosen = torch.arange(0, len(points), -(-len(points) // _MOST_POINTS))
    squares = torch.zeros(len(bank), dtype=torch.float64)
    counts = torch.zeros(len(bank), dtype=torch.float64)
    of_points, of_bank = (torch.from_numpy(np.asarray(each)) for each in (family_of_point, family_of_bank))

    def left_out(rows: Tensor) -> Tensor:
        is_own = of_points[rows, None] == of_bank
        return is_own if apart is None else is_own | apart(rows)

    for squared, nearest in _to_others(points, chosen, bank, left_out):
        squares.index_add_(0, nearest, squared.double())
        counts.index_add_(0, nearest, torch.ones_like(squared, dtype=torch.float64))
    if float(squares.sum()) == 0.0:
        # Nothing to compare, or nothing but copies: all distances count alike.
        return torch.ones(len(bank))
    typical = squares.sum() / counts.sum()
    return ((typical + squares) / (1.0 + counts)).sqrt().float()


def _to_others(
    points: Tensor, chosen: Tensor, bank: Tensor, left_out: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Squared distance of chosen points to the nearest bank patch that counts, and which it is, by blocks.

    Points for which none counts are left out, such as those of a family that has the whole bank to itself.
    """
    norms = (bank * bank).sum(dim=1)
    for rows in torch.split(chosen, _BLOCK_ROWS):
        block = points[rows]
        brackets = torch.addmm(norms, block, bank.T, alpha=-2.0)
        smallest, nearest = brackets.masked_fill_(left_out(rows), torch.inf).min(dim=1)
        squared = (smallest + (block * block).sum(dim=1)).clamp_min(0.0)
        has_others = torch.isfinite(squared)
        yield squared[has_others], nearest[has_others]
