"""Patches compared only with bank patches of nearby places, for parts that lie alike in every picture.

What is normal on the thread of a screw is odd on its head. With ``nearby`` a patch is compared only with bank
patches whose cell of the patch grid lies at most so many rows and columns away (as PaDiM compares a cell with
itself alone; Defard et al. 2021, https://arxiv.org/abs/2011.08785). In the graph, others are infinitely far.

A bank chosen anywhere could leave a place with nothing to be compared with. So the picture is divided into
square parts, no wider than the radius allows, so that all cells of a part are near each other, and greedy
k-centre selection knows no distance between parts: it takes two patches of each part first, and then always
the patch that is farthest from those taken of its own part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from contracts.errors import DataError
from contracts.rows import IndexArray
from oneclass.patchcore.coreset import k_center_greedy

LEAST_OF_A_PART = 2
"""Bank patches of each part, where it has so many that differ: one alone may be of an odd image."""


class FarAway(nn.Module):
    """Which bank patches lie too far from each cell of the grid.

    Args:
        cells: ``[B]`` cells of the bank patches, row by row: ``row * grid + column``.
        grid: cells per side.
        radius: rows and columns between two cells that are near, at most.
    """

    row: Tensor
    column: Tensor
    is_far: Tensor

    def __init__(self, cells: Tensor, grid: int, radius: int) -> None:
        super().__init__()
        # Places and not the mask itself: a mask for each cell would take more bytes than the bank.
        self.register_buffer("row", cells // grid, persistent=False)
        self.register_buffer("column", cells % grid, persistent=False)
        steps = torch.arange(grid)
        self.register_buffer("is_far", (steps[:, None] - steps).abs() > radius, persistent=False)

    def forward(self) -> Tensor:
        """``[P, B]`` bool for the P cells of the grid, row by row."""
        # [g, 1, B] and [1, g, B]: of each row, and of each column.
        return (self.is_far[:, None, self.row] | self.is_far[None, :, self.column]).flatten(end_dim=1)


@dataclass(frozen=True)
class Places:
    """Cells of a patch grid, row by row (``row * grid + column``), and which of them are near each other.

    Attributes:
        grid: cells per side.
        radius: rows and columns between two cells that are near, at most.
    """

    grid: int
    radius: int

    def are_apart(self, cells: Tensor, others: Tensor) -> Tensor:
        """``[A, B]`` bool, whether cells ``[A]`` and ``[B]`` are not near each other."""
        rows = (cells // self.grid)[:, None] - others // self.grid
        columns = (cells % self.grid)[:, None] - others % self.grid
        return (rows.abs() > self.radius) | (columns.abs() > self.radius)

    @property
    def parts_per_side(self) -> int:
        """Parts that a side of the picture is divided into, none wider than ``radius + 1`` cells."""
        return -(-self.grid // (self.radius + 1))

    @property
    def n_parts(self) -> int:
        """Parts of the picture."""
        return self.parts_per_side**2

    def part_of_cells(self, cells: IndexArray) -> IndexArray:
        """``[n]`` number of the part that each cell lies in; all cells of a part are near each other."""
        row, column = np.divmod(cells, self.grid)
        sides = self.parts_per_side
        parts: IndexArray = (row * sides // self.grid) * sides + column * sides // self.grid
        return parts

    def require_patches(self, size: int, part_of_point: IndexArray) -> None:
        """Refuse a bank that cannot hold patches of each part.

        Args:
            size: of the bank.
            part_of_point: ``[P]`` of the candidates.

        Raises:
            DataError: it has room for fewer than two of each, or a part has no candidates.
        """
        parts = f"patchcore: nearby={self.radius} divides the picture into {self.n_parts} parts, "
        least = LEAST_OF_A_PART * self.n_parts
        if size < least:
            raise DataError(
                f"{parts}and the bank has room for {size} patches, fewer than {LEAST_OF_A_PART} of each. "
                f"Give it {least}, or raise nearby."
            )
        n_empty = self.n_parts - len(np.unique(part_of_point))
        if n_empty > 0:
            raise DataError(
                f"{parts}and the {len(part_of_point)} candidates leave {n_empty} of them empty. Raise "
                "candidate_patches or nearby."
            )


def greedy_by_part(points: Tensor, part_of_point: IndexArray, size: int, seed: int) -> Tensor:
    """Greedy k-centre selection in which points of different parts are infinitely far from each other.

    Args:
        points: ``[P, k]``, on the device that selects.
        part_of_point: ``[P]``.
        size: how many to select, at least :data:`LEAST_OF_A_PART` of each part.
        seed: of each part's first point.

    Returns:
        ``[n]`` positions int64, on the CPU, in the order of selection; fewer than ``size`` once every
        remaining point is a copy of a selected one of its part.
    """
    parts = [np.flatnonzero(part_of_point == part) for part in np.unique(part_of_point)]
    counts = [min(len(mine), max(LEAST_OF_A_PART, -(-2 * size // len(parts)))) for mine in parts]
    selected = [_greedy(points, mine, count, seed) for mine, count in zip(parts, counts, strict=True)]
    while True:
        radii = np.concatenate([radius for _, radius in selected])
        owner = np.repeat(np.arange(len(parts)), [len(radius) for _, radius in selected])
        # Radii fall within a part, so that what is taken of it is what greedy selection took first.
        taken = np.argsort(-radii, kind="stable")[:size]
        # A part of which all that was asked for is taken might have had more to give.
        of_part = np.bincount(owner[taken], minlength=len(parts))
        short = [
            number
            for number, mine in enumerate(parts)
            if of_part[number] == counts[number] and counts[number] < min(len(mine), size)
        ]
        if not short:
            positions = np.concatenate([order for order, _ in selected])
            return torch.from_numpy(positions[taken])
        for number in short:
            counts[number] = min(len(parts[number]), 2 * counts[number])
            selected[number] = _greedy(points, parts[number], counts[number], seed)


def _greedy(points: Tensor, mine: IndexArray, count: int, seed: int) -> tuple[IndexArray, IndexArray]:
    """Positions of a part's first ``count`` points, and how far each was from those before it; falling."""
    own = points[torch.from_numpy(mine).to(points.device)]
    order = k_center_greedy(own, count, seed)
    centres = own[order.to(own.device)].cpu()
    # By differences, so that copies are at 0.
    between = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
    is_later = torch.ones(len(order), len(order), dtype=torch.bool).triu()
    radius = between.masked_fill(is_later, torch.inf).amin(dim=1).numpy()
    # The first ones are taken before any other part's third.
    radius[:LEAST_OF_A_PART] = np.inf
    return mine[order.numpy()], np.minimum.accumulate(radius)
