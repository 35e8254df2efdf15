"""Mean distance to the nearest rows of a bank, as one matrix product."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from contracts.errors import MemberCollapsedError
from contracts.rows import FloatArray, IndexArray
from oneclass.collapse import require_distinct_scores
from oneclass.majority import reference_positions


class NearestRows(nn.Module):
    """Distances to a bank.

    Args:
        bank: ``[B, D]`` rows.
        neighbours: k; if the bank has fewer rows, all of them count.
    """

    bank: Tensor
    middle: Tensor
    minus_two_bank: Tensor
    bank_norm: Tensor

    def __init__(self, bank: Tensor, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.register_buffer("bank", bank)
        # Distances do not depend on the origin, but their rounding errors do: |x|^2 - 2 x.b + |b|^2 subtracts
        # numbers of the size of the squared norms, which are smallest around the mean.
        self.register_buffer("middle", bank.mean(dim=0), persistent=False)
        centred = bank - self.middle
        self.register_buffer("minus_two_bank", -2.0 * centred.T.contiguous(), persistent=False)
        self.register_buffer("bank_norm", centred.square().sum(dim=1), persistent=False)

    def squared(self, rows: Tensor) -> Tensor:
        """``[N, B]`` squared distances of ``[N, D]`` rows to the bank."""
        centred = rows - self.middle
        bracket = torch.matmul(centred, self.minus_two_bank) + self.bank_norm
        # Rounding can take the distance to a copy a little below 0, and its square root would be NaN.
        return (bracket + centred.square().sum(dim=1, keepdim=True)).clamp_min(0.0)

    def forward(self, rows: Tensor) -> Tensor:
        """``[N]`` mean Euclidean distances to the k nearest rows of the bank."""
        return self._mean_of_nearest(self.squared(rows), min(self.neighbours, self.bank.shape[0]))

    def reference(self, name: str, families: IndexArray) -> FloatArray:
        """``[R, 1]`` scores of rows of the bank, as if the bank lacked each row and its family.

        A row of the bank is at distance 0 from itself, so no row counts among its own neighbours.

        Args:
            name: of the member, for the message.
            families: ``[B]`` see :func:`oneclass.majority.families_of`.

        Raises:
            MemberCollapsedError: distances between the bank's rows do not tell them apart.
        """
        n_rows = self.bank.shape[0]
        if n_rows == 1:
            itself: FloatArray = self(self.bank)[:, None].numpy()
            return itself
        # A few hundred rows show whether the bank varies; comparing all with all would be quadratic.
        checked = torch.from_numpy(reference_positions(n_rows))
        # Not by the matrix product: its rounding errors would make copies look different.
        squared = torch.cdist(
            self.bank[checked], self.bank, compute_mode="donot_use_mm_for_euclid_dist"
        ).square()
        squared[torch.arange(len(checked)), checked] = torch.inf
        if float(squared.amin(dim=1).max()) == 0.0:
            raise MemberCollapsedError(f"{name}: collapsed, its {n_rows} majority rows are all alike.")
        # Two rows have one distance between them, so their scores are equal and say nothing.
        if n_rows > 2:
            distances = self._mean_of_nearest(squared, min(self.neighbours, n_rows - 1))
            require_distinct_scores(name, distances[:, None].numpy())
        family = torch.from_numpy(families)
        squared[family[checked][:, None] == family] = torch.inf
        # The largest family leaves the fewest neighbours.
        most = int(np.unique(families, return_counts=True)[1].max())
        found: FloatArray = self._mean_of_nearest(squared, min(self.neighbours, n_rows - most))[
            :, None
        ].numpy()
        return found

    @staticmethod
    def _mean_of_nearest(squared: Tensor, k: int) -> Tensor:
        return squared.topk(k, dim=1, largest=False).values.sqrt().mean(dim=1)
