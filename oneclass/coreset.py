"""Exact k-centre greedy selection, in the order of the plain algorithm and at the speed of GEMM.

Plain greedy takes the point farthest from the points taken so far, one at a time, and updates every
distance after each: k passes over all points. Distances only ever shrink, so as long as the farthest
of the M currently farthest points stays beyond the (M+1)-th, it is the farthest of all: greedy can
go on among those M alone, and all points are updated once per round, by one matrix product.

Source of the plain algorithm: Sener & Savarese 2018 (https://arxiv.org/abs/1708.00489), algorithm 1,
as PatchCore uses it (Roth et al. 2022, algorithm 1). The rounds are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROUND_POINTS = 2048
_BLOCK_ROWS = 65536
# |x|^2 + |c|^2 - 2 x.c is off by a few units in the last place of |x|^2; below, two points count as copies.
_ROUNDING_STEPS = 16


def k_center_greedy(points: Tensor, n_centers: int, seed: int, round_points: int = _ROUND_POINTS) -> Tensor:
    """Select rows so that the farthest row is as near as greedy gets to a selected one.

    Args:
        points: ``[P, D]`` float32, on any device.
        n_centers: how many to select; at least 1. With more than P, or once every distance is 0
            (only copies are left, up to rounding), fewer are returned.
        seed: of the first, random, centre.
        round_points: M, the points that a round works among.

    Returns:
        ``[k]`` int64 row positions in the order of selection; the same as plain greedy's.
    """
    n_points = points.shape[0]
    n_centers = min(n_centers, n_points)
    squared_norm = (points * points).sum(dim=1)
    noise = _ROUNDING_STEPS * torch.finfo(points.dtype).eps * squared_norm
    generator = torch.Generator().manual_seed(seed)
    first = int(torch.randint(n_points, (1,), generator=generator))
    selected = [first]
    nearest = torch.full((n_points,), float("inf"), device=points.device)
    _shrink(nearest, points, squared_norm, noise, [first])
    while len(selected) < n_centers:
        fresh = _one_round(nearest, points, squared_norm, noise, n_centers - len(selected), round_points)
        if not fresh:
            break
        selected.extend(fresh)
        _shrink(nearest, points, squared_norm, noise, fresh)
    return torch.tensor(selected, dtype=torch.int64)


def _one_round(
    nearest: Tensor, points: Tensor, squared_norm: Tensor, noise: Tensor, n_wanted: int, round_points: int
) -> list[int]:
    """Greedy among the farthest points, for as long as it is certain to be greedy among all."""
    n_points = points.shape[0]
    n_top = min(round_points + 1, n_points)
    values, order = torch.topk(nearest, n_top)
    bound = float(values[-1]) if n_top < n_points else -1.0
    # The lowest position wins a tie, as argmax over all points would have it.
    candidates = torch.sort(order if n_top == n_points else order[:-1]).values
    among = points[candidates]
    norms = squared_norm[candidates]
    squared = torch.addmm(norms[:, None] + norms[None, :], among, among.T, alpha=-2.0)
    squared.masked_fill_(squared <= noise[candidates, None], 0.0)
    distance = nearest[candidates]
    fresh: list[int] = []
    while len(fresh) < n_wanted:
        best = int(torch.argmax(distance))
        if float(distance[best]) <= 0.0:
            break
        if float(distance[best]) <= bound:
            if fresh:
                break
            # A tie between candidates and the rest: the plain step decides, and the round goes on.
            return [int(torch.argmax(nearest))]
        fresh.append(int(candidates[best]))
        torch.minimum(distance, squared[best], out=distance)
        distance[best] = 0.0
    return fresh


def _shrink(nearest: Tensor, points: Tensor, squared_norm: Tensor, noise: Tensor, fresh: list[int]) -> None:
    """Lower every point's squared distance to the selection by the newly selected rows, in place."""
    centers = points[fresh]
    center_norms = squared_norm[fresh]
    for start in range(0, points.shape[0], _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        squared = torch.addmm(center_norms[None, :], points[block], centers.T, alpha=-2.0).amin(dim=1)
        squared += squared_norm[block]
        squared.masked_fill_(squared <= noise[block], 0.0)
        torch.minimum(nearest[block], squared, out=nearest[block])
    # Rounding must not leave a selected point at a distance from itself.
    nearest[fresh] = 0.0


def cover_radius(points: Tensor, centers: Tensor) -> float:
    """Largest Euclidean distance of any point to its nearest centre; what greedy keeps small.

    Args:
        points: ``[P, D]``.
        centers: ``[k, D]``.
    """
    radius = 0.0
    for start in range(0, points.shape[0], _BLOCK_ROWS):
        distances = torch.cdist(points[start : start + _BLOCK_ROWS], centers)
        radius = max(radius, float(distances.amin(dim=1).max()))
    return radius
