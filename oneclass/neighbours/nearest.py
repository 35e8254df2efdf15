"""Mean distance to the nearest rows of a bank, as one matrix product."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from contracts.errors import MemberCollapsedError
from contracts.rows import IndexArray
from oneclass.collapse import require_distinct_scores

_CHECKED_ROWS = 512


def drawn_rows(n_rows: int, most: int, seed: int) -> IndexArray:
    """Positions of all rows, or of ``most`` of them drawn at random, rising."""
    if n_rows <= most:
        return np.arange(n_rows, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most, replace=False)).astype(np.int64)


class NearestRows(nn.Module):
    """Distances to a bank.

    Args:
        bank: ``[B, D]`` rows.
        neighbours: k; all rows where the bank has fewer.
    """

    bank: Tensor
    middle: Tensor
    minus_two_bank: Tensor
    bank_norm: Tensor

    def __init__(self, bank: Tensor, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.register_buffer("bank", bank)
        # Distances do not depend on the origin, but their rounding does: the product subtracts numbers as
        # large as the squared norms.
        self.register_buffer("middle", bank.mean(dim=0), persistent=False)
        centred = bank - self.middle
        self.register_buffer("minus_two_bank", -2.0 * centred.T.contiguous(), persistent=False)
        self.register_buffer("bank_norm", centred.square().sum(dim=1), persistent=False)

    def squared(self, rows: Tensor) -> Tensor:
        """``[N, B]`` squared distances of ``[N, D]`` rows to the bank."""
        centred = rows - self.middle
        bracket = torch.matmul(centred, self.minus_two_bank) + self.bank_norm
        return (bracket + centred.square().sum(dim=1, keepdim=True)).clamp_min(0.0)

    def forward(self, rows: Tensor) -> Tensor:
        """``[N]`` mean Euclidean distances to the k nearest rows of the bank."""
        return self._mean_of_nearest(self.squared(rows), min(self.neighbours, self.bank.shape[0]))

    def require_distinct(self, name: str) -> None:
        """Refuse a bank whose rows do not differ, judged by their distances to each other.

        A row of the bank is at distance 0 from itself, so every row is left out of its own neighbours.

        Raises:
            MemberCollapsedError: distances among the bank's rows do not tell them apart.
        """
        n_rows = self.bank.shape[0]
        if n_rows == 1:
            return
        # Exact distances: the product's rounding would make copies look different.
        checked = torch.arange(0, n_rows, max(1, n_rows // _CHECKED_ROWS))
        squared = torch.cdist(
            self.bank[checked], self.bank, compute_mode="donot_use_mm_for_euclid_dist"
        ).square()
        squared[torch.arange(len(checked)), checked] = torch.inf
        if float(squared.amin(dim=1).max()) == 0.0:
            raise MemberCollapsedError(f"{name}: collapsed, its {n_rows} majority rows are all alike.")
        if n_rows > 2:
            distances = self._mean_of_nearest(squared, min(self.neighbours, n_rows - 1))
            require_distinct_scores(name, distances[:, None].numpy())

    @staticmethod
    def _mean_of_nearest(squared: Tensor, k: int) -> Tensor:
        return squared.topk(k, dim=1, largest=False).values.sqrt().mean(dim=1)
