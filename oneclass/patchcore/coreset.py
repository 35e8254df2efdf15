"""Exact k-centre greedy selection, in the order of the plain algorithm, at a fraction of its arithmetic.

Plain greedy takes the point farthest from all points taken so far, one at a time, and updates every distance
after each: k passes over all P points. Three observations save most of that work.

*Lazy.* Distances to the selection only decrease, so an outdated distance is an upper bound. A point whose
upper bound is not above the distance of the next centre cannot be the farthest, and is not looked at. Each
round takes the few thousand points with the largest bounds, compares them with the centres they have not
seen, and drops a point as soon as its bound falls below the largest bound outside the round. Most points are
never compared with most centres, even if points are spread evenly.

*Rounds.* Among the survivors of a round, greedy selection continues as long as the farthest survivor lies
beyond every bound outside the round. One small matrix of distances gives hundreds of centres.

*Screening.* Comparisons are single-precision matrix products with a proven bound on their rounding errors.
Only the distances of survivors are computed again, from differences in double precision. The order is that of
plain greedy in double precision on any processor, with any library and any number of threads.

Source of the plain algorithm: Sener & Savarese 2018 (https://arxiv.org/abs/1708.00489), algorithm 1,
as PatchCore uses it (Roth et al. 2022, algorithm 1). Lazy evaluation is Minoux's (1978); the rest is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from oneclass.patchcore.points import PointSource, as_points, blocks, sample_mean

# Sizes of the blocks. They decide time and memory, never which points are selected.
_ROUND_POINTS = 4096
_MATRIX_POINTS = 768
_CENTER_BLOCK = 256
_SETTLED_AT_ONCE = 256
# Number of multiply-adds from which a product is worth sharing between threads.
_SHARED_PRODUCT = 2**25
# In double precision |x|^2 + |c|^2 - 2 x.c is off by a few units in the last place of |x|^2. Two points of a
# round that are nearer to each other than that count as copies.
_COPY_STEPS = 16
# Below "highest", torch may round the factors of a product of matrices to TensorFloat-32 or bfloat16.
_FACTOR_ROUNDING = {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-6}


def k_center_greedy(
    points: Tensor | npt.NDArray[Any] | PointSource,
    n_centers: int,
    seed: int,
    round_points: int = _ROUND_POINTS,
) -> Tensor:
    """Select rows greedily so that the largest distance of any row to its nearest selected row is small.

    Args:
        points: ``[P, D]``: a tensor on any device, an array, a memory map, or any
            :class:`~oneclass.patchcore.points.PointSource`. It is read a block at a time: beyond
            it the selection takes 28 bytes per point, the selected rows and some 40 MB.
        n_centers: how many to select; at least 1. Fewer are returned if it exceeds P, or once every distance
            is 0 (only copies are left).
        seed: of the first centre, which is random.
        round_points: points that a round looks at. It decides time and memory, never the result.

    Returns:
        ``[k]`` int64 row positions in the order of selection, on the CPU. They equal plain greedy's, where
        ties go to the lowest position. The first m of them are the selection of m rows.
    """
    source = as_points(points)
    generator = torch.Generator().manual_seed(seed)
    # The first centre is random, as in the paper; a seeded draw makes the selection reproducible.
    first = int(torch.randint(source.shape[0], (1,), generator=generator))
    n_centers = min(n_centers, source.shape[0])
    with _threads(1) as threads:
        selection = _Selection(source, first, round_points, threads)
        while len(selection.order) < n_centers and selection.grow(n_centers):
            pass
    return torch.tensor(selection.order, dtype=torch.int64)


@contextmanager
def _threads(n: int) -> Iterator[int]:
    """Run CPU operators on ``n`` threads; yields the number of threads before.

    Only large products are shared between threads here. All other operators are short and there are
    thousands of them: threads would lose more by waiting for each other than they gain, on a busy machine
    tens of times as much.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


class _Selection:
    """The centres so far, and bounds on every point's squared distance to the nearest of them.

    Attributes:
        order: positions of the centres as they were selected.
        upper: ``[P]`` float64 upper bound on the squared distance to the nearest of the first ``seen``
            centres.
        lower: ``[P]`` float64 lower bound; equal to ``upper`` where the distance is known exactly.
        nearest: ``[P]`` int32 that centre's index into ``order``; -1 where rounding errors leave several
            candidates. Meaningless where the distance is exact.
        seen: ``[P]`` int32 number of centres that the point was compared with.
    """

    def __init__(self, source: PointSource, first: int, round_points: int, threads: int) -> None:
        n_points, dim = source.shape
        self.source = source
        self.round_points = round_points
        self.threads = threads
        self.order: list[int] = []
        # Centred points have small norms, and the rounding errors of |x|^2 - 2 x.c + |c|^2 grow with the
        # norms.
        self.mean = sample_mean(source)
        self.center_blocks: list[Tensor] = []
        # (D + 8) rounding errors: of the D products and their sum in any order, of the subtracted mean and
        # of the two additions (Higham 2002, "Accuracy and Stability of Numerical Algorithms", chapter 3).
        # The unit roundoff: half the distance between 1 and the next number.
        unit = torch.finfo(source.dtype).eps / 2
        factors = 0.0
        if source.dtype == torch.float32:
            factors = _FACTOR_ROUNDING[torch.get_float32_matmul_precision()]
            # TensorFloat-32 may be switched on by either of two settings; the bound must hold for the coarser
            # one.
            if source.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32:
                factors = max(factors, _FACTOR_ROUNDING["high"])
        self.rounding = (dim + 8) * unit + factors
        device = source.device
        self.norm = torch.empty(n_points, dtype=source.dtype, device=device)
        squared = torch.empty(n_points, dtype=torch.float64, device=device)
        self.nearest = torch.zeros(n_points, dtype=torch.int32, device=device)
        self.seen = torch.ones(n_points, dtype=torch.int32, device=device)
        origin = source.rows(torch.tensor([first], device=device))
        for start, rows in blocks(source):
            block = slice(start, start + len(rows))
            squared[block] = torch.linalg.vector_norm(rows - origin, dim=1).double().square()
            self.norm[block] = torch.linalg.vector_norm(rows.sub_(self.mean), dim=1)
        # The first distances are computed from differences, so their error is relative to the distance
        # itself.
        self.upper = squared * (1.0 + self.rounding)
        self.lower = squared * (1.0 - self.rounding)
        self._append(torch.tensor([first], device=device))

    def _append(self, positions: Tensor) -> None:
        """Add centres to the order and to the blocks that points are compared with."""
        rows = self.source.rows(positions) - self.mean
        self.order.extend(positions.tolist())
        if self.center_blocks and len(self.center_blocks[-1]) < _CENTER_BLOCK:
            rows = torch.cat([self.center_blocks.pop(), rows])
        self.center_blocks.extend(torch.split(rows, _CENTER_BLOCK))
        self.upper[positions] = 0.0
        self.lower[positions] = 0.0

    def grow(self, n_centers: int) -> bool:
        """Run one round; False if only copies of centres are left."""
        n_points = len(self.upper)
        # One more than the round: the smallest of these bounds every point that is not among them.
        n_top = min(self.round_points + 1, n_points)
        values, top = torch.topk(self.upper, n_top, sorted=False)
        if float(values.max()) <= 0.0:
            return False
        # No point outside the round is farther than this.
        bound = float(values.min()) if n_top < n_points else 0.0
        # Strictly above: a point that ties with the bound might have a twin of lower position outside the
        # round.
        candidates = top[values > bound]
        self._advance(candidates, bound)
        # Two filters: first by screened bounds, then by exact distances, which are costly and so computed for
        # few.
        survivors = candidates[self.upper[candidates] > bound]
        self._settle(survivors)
        survivors = survivors[self.upper[survivors] > bound]
        # The matrix of distances among survivors is quadratic; the farthest few are enough to make progress.
        if len(survivors) > _MATRIX_POINTS:
            values, top = torch.topk(self.upper[survivors], _MATRIX_POINTS + 1, sorted=False)
            bound = max(bound, float(values.min()))
            survivors = survivors[top[values > bound]]
        if len(survivors):
            self._select_among(survivors, bound, n_centers)
        elif len(candidates) == 0:
            # Every point of the round has the same bound as some point outside: a plain step breaks the tie.
            return self._select_one()
        return True

    def _advance(self, candidates: Tensor, bound: float) -> None:
        """Compare points with centres they have not seen, as long as they may lie beyond ``bound``."""
        candidates = candidates[self.seen[candidates] < len(self.order)]
        if len(candidates) == 0:
            return
        # Sorted by what they have seen, so that the points to compare with a block are a prefix.
        candidates = candidates[torch.argsort(self.seen[candidates])]
        rows = self.source.rows(candidates) - self.mean
        start = int(self.seen[candidates[0]]) // _CENTER_BLOCK * _CENTER_BLOCK
        for centers in self.center_blocks[start // _CENTER_BLOCK :]:
            stop = start + len(centers)
            n_behind = int((self.seen[candidates] < stop).sum())
            if n_behind:
                self._compare(candidates[:n_behind], rows[:n_behind], centers, start)
            alive = self.upper[candidates] > bound
            n_alive = int(alive.sum())
            if n_alive == 0:
                break
            # Copying rows is not free, so it is done only when it leaves a quarter of them behind.
            if n_alive < 0.75 * len(candidates):
                candidates, rows = candidates[alive], rows[alive]
            start = stop

    def _compare(self, points: Tensor, rows: Tensor, centers: Tensor, start: int) -> None:
        """Tighten the bounds of points by a block of centres, of which the first is the ``start``-th."""
        # Everything here is in the source's precision; the doubles below only add and compare.
        center_norm = centers.norm(dim=1)
        # |x - c|^2 = |x|^2 + (|c|^2 - 2 x.c), of which only the bracket depends on the centre.
        is_large = rows.numel() * len(centers) >= _SHARED_PRODUCT
        with _threads(self.threads if is_large else 1):
            bracket = torch.addmm(center_norm.square()[None, :], rows, centers.T, alpha=-2.0)
        seen = self.seen[points]
        n_fresh = int((seen <= start).sum())
        if n_fresh < len(points):
            columns = torch.arange(start, start + len(centers), device=rows.device)
            # A point that has seen part of this block must not meet the same centre twice: that is harmless
            # to the bounds, but would make its own nearest centre look like a tie and so not unique.
            bracket[n_fresh:].masked_fill_(columns < seen[n_fresh:, None], float("inf"))
        where = _argmin(bracket)
        least = bracket.gather(1, where).double()[:, 0]
        # In place: the bracket is the largest array of the selection and is not needed any more.
        second = bracket.scatter_(1, where, float("inf")).amin(dim=1)
        norm = self.norm[points]
        rounding = self.rounding * (norm + center_norm.max()).double().square()
        squared = norm.double().square() + least
        # Unless the second nearest is farther by both rounding errors, either may be the nearest.
        is_only_one = second > least + 2.0 * rounding
        upper, lower = self.upper[points], self.lower[points]
        is_nearer = squared + rounding < lower
        is_farther = squared - rounding > upper
        found = torch.where(is_nearer & is_only_one, (start + where[:, 0]).int(), -1)
        self.nearest[points] = torch.where(is_farther, self.nearest[points], found)
        self.upper[points] = torch.minimum(upper, squared + rounding)
        self.lower[points] = torch.minimum(lower, squared - rounding)
        self.seen[points] = start + len(centers)

    def _settle(self, points: Tensor) -> None:
        """Compute exact distances of points that have only bounds; the points have seen all centres."""
        points = points[self.lower[points] < self.upper[points]]
        order = torch.tensor(self.order, device=points.device)
        for part in torch.split(points, _SETTLED_AT_ONCE):
            rows = self.source.rows(part).double()
            nearest = self.nearest[part].long()
            # Points whose nearest centre is certain need one distance; the others need all.
            squared = torch.full_like(self.upper[part], float("inf"))
            one = nearest >= 0
            if one.any():
                squared[one] = (rows[one] - self._centers(order[nearest[one]])).square().sum(dim=1)
            if not one.all():
                squared[~one] = self._nearest_of_all(rows[~one], order)
            self.upper[part] = squared
            self.lower[part] = squared

    def _centers(self, positions: Tensor) -> Tensor:
        return self.source.rows(positions).double()

    def _nearest_of_all(self, rows: Tensor, order: Tensor) -> Tensor:
        """``[n]`` squared distances to the nearest centre, in double precision and without screening."""
        least = torch.full((len(rows),), float("inf"), dtype=torch.float64, device=rows.device)
        nearest = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        for part in torch.split(order, _MATRIX_POINTS):
            squared = _squared_distances(rows, self._centers(part))
            where = _argmin(squared)
            squared = squared.gather(1, where)[:, 0]
            nearest = torch.where(squared < least, part[where[:, 0]], nearest)
            least = torch.minimum(least, squared)
        # From differences: then equal distances are equal numbers, and ties are broken as plain greedy does.
        return (rows - self._centers(nearest)).square().sum(dim=1)

    def _select_among(self, survivors: Tensor, bound: float, n_centers: int) -> None:
        """Greedy among points with exact distances, while the farthest lies beyond all others' bounds."""
        # Sorted, so that the lowest position wins a tie, as in an argmax over all points.
        survivors = torch.sort(survivors).values
        rows = self.source.rows(survivors).double()
        # NumPy on the CPU: the loop below makes hundreds of tiny steps, for which launching kernels would
        # cost more than the arithmetic.
        among = _squared_distances(rows, rows).cpu().numpy()
        squared = self.upper[survivors].cpu().numpy()
        fresh: list[int] = []
        while len(self.order) + len(fresh) < n_centers:
            best = int(squared.argmax())
            if squared[best] <= bound:
                break
            fresh.append(best)
            np.minimum(squared, among[best], out=squared)
            # Exactly 0, so that a selected point can never be selected again.
            squared[best] = 0.0
        self._append(survivors[torch.tensor(fresh, device=survivors.device)])
        exact = torch.from_numpy(squared).to(self.upper.device)
        self.upper[survivors] = exact
        self.lower[survivors] = exact
        self.seen[survivors] = len(self.order)

    def _select_one(self) -> bool:
        """Plain greedy step: the lowest position at the largest distance; False if that distance is 0."""
        while float(largest := self.upper.max()) > 0.0:
            farthest = torch.nonzero(self.upper == largest)[:, 0]
            behind = self.seen[farthest] < len(self.order)
            # Bounds tie, distances may not: make the tied points exact before the lowest position wins.
            unsure = farthest[behind | (self.lower[farthest] < self.upper[farthest])][: self.round_points]
            if len(unsure) == 0:
                self._append(farthest[:1])
                return True
            # A bound below every squared distance, so that no point is dropped on the way.
            self._advance(unsure, bound=-1.0)
            self._settle(unsure)
        return False


def _argmin(values: Tensor) -> Tensor:
    """``[n, 1]`` column of each row's smallest value; on the CPU by NumPy, which is ten times as fast."""
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy().argmin(axis=1, keepdims=True))
    return values.argmin(dim=1, keepdim=True)


def _squared_distances(rows: Tensor, others: Tensor) -> Tensor:
    """``[n, m]`` squared distances of float64 rows; 0 between rows that differ only by rounding errors."""
    norm, other_norm = rows.square().sum(dim=1), others.square().sum(dim=1)
    squared = torch.addmm(other_norm[None, :], rows, others.T, alpha=-2.0).add_(norm[:, None])
    # Without this, copies of a centre would keep a distance of rounding noise and be selected as if they were
    # new.
    noise = _COPY_STEPS * torch.finfo(rows.dtype).eps * norm
    return squared.masked_fill_(squared <= noise[:, None], 0.0)


def cover_radius(
    points: Tensor | npt.NDArray[Any] | PointSource, centers: Tensor | npt.NDArray[Any] | PointSource
) -> float:
    """Largest Euclidean distance of any point to its nearest centre, which greedy selection keeps small.

    A point is dropped as soon as some centre is nearer than the largest distance found so far.

    Args:
        points: ``[P, D]``.
        centers: ``[k, D]``, on the same device.
    """
    source, chosen = as_points(points), as_points(centers)
    mean = sample_mean(source)
    largest = 0.0
    for _, block in blocks(source):
        rows = block - mean
        nearest = torch.full((len(rows),), float("inf"), dtype=rows.dtype, device=rows.device)
        for _, centers_of_block in blocks(chosen, _MATRIX_POINTS):
            others = centers_of_block - mean
            bracket = torch.addmm(others.square().sum(dim=1)[None, :], rows, others.T, alpha=-2.0)
            nearest = torch.minimum(nearest, rows.square().sum(dim=1) + bracket.amin(dim=1))
            # A point can only raise the maximum if even its nearest centre is farther than the maximum so
            # far.
            alive = nearest > largest
            rows, nearest, block = rows[alive], nearest[alive], block[alive]  # noqa: PLW2901
            if len(rows) == 0:
                break
        # The remaining points may be the farthest; their distances must not depend on rounding errors.
        if len(rows):
            exact = torch.full((len(block),), float("inf"), dtype=torch.float64, device=rows.device)
            for _, centers_of_block in blocks(chosen, _CENTER_BLOCK):
                between = torch.cdist(
                    block.double(), centers_of_block.double(), compute_mode="donot_use_mm_for_euclid_dist"
                )
                exact = torch.minimum(exact, between.amin(dim=1))
            largest = max(largest, float(exact.max()) ** 2)
    return float(np.sqrt(largest))
