"""Rows as the networks of Deep SVDD and Deep SAD are trained on them, in whole batches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from contracts.rows import MaskArray


class SphereBatch(NamedTuple):
    """B rows of a training step.

    Attributes:
        inputs: ``[B, ...]`` as the network reads them.
        is_minority: ``[B]`` bool; labelled rows to push away from the centre.
    """

    inputs: Tensor
    is_minority: Tensor


class SphereRows(Dataset[SphereBatch]):
    """Inputs with their labels, in whole batches.

    Args:
        inputs: a dataset whose ``__getitems__`` gives ``[B, ...]``.
        is_minority: ``[N]`` bool.
    """

    def __init__(self, inputs: Dataset[Tensor], is_minority: Tensor) -> None:
        self.inputs, self.is_minority = inputs, is_minority

    def __len__(self) -> int:
        return len(self.is_minority)

    def __getitems__(self, positions: list[int]) -> SphereBatch:
        """A batch of B rows; DataLoader calls this once per batch."""
        inputs: Tensor = self.inputs.__getitems__(positions)  # type: ignore[attr-defined]
        return SphereBatch(inputs, self.is_minority[positions])


class SomeLeftOut(Dataset[SphereBatch | None]):
    """Rows among the places of more rows, the others of which were left out.

    Batches are drawn among all places, so a network that lacks some rows is trained by as many steps as one
    that has them, and in the same order.

    Args:
        rows: R rows.
        is_left_out: ``[N]`` False at R places, those of the rows in their order.
    """

    def __init__(self, rows: SphereRows, is_left_out: MaskArray) -> None:
        self.rows = rows
        self._place_of = np.where(is_left_out, -1, np.cumsum(~is_left_out) - 1).tolist()

    def __len__(self) -> int:
        return len(self._place_of)

    def __getitems__(self, places: list[int]) -> SphereBatch | None:
        """A batch of those that are there; None, which Lightning passes over, where none is."""
        there = [self._place_of[place] for place in places if self._place_of[place] >= 0]
        return self.rows.__getitems__(there) if there else None
