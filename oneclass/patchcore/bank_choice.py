"""A bank chosen from candidates, and chosen again without some of their images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from contracts.rows import ImageRows, IndexArray, MaskArray
from oneclass.majority import families_of
from oneclass.patchcore.candidates import Candidates
from oneclass.patchcore.coreset import k_center_greedy
from oneclass.patchcore.module import PatchCoreModule
from oneclass.patchcore.nearby import LEAST_OF_A_PART, Places, greedy_by_part
from oneclass.patchcore.settings import PatchCoreSettings
from oneclass.patchcore.usual import usual_distances


class ChosenBank(NamedTuple):
    """A bank.

    Attributes:
        positions: ``[B]`` of its patches among the candidates, in the order of greedy selection.
        module: that scores with it.
    """

    positions: IndexArray
    module: PatchCoreModule


class BankChoice:
    """Chooses banks from the patches of some candidates.

    Args:
        candidates: of ``majority``.
        majority: normal images.
        settings: of the member.
        seed: of greedy selection's first patch.
        device: that selects.
    """

    def __init__(
        self, candidates: Candidates, majority: ImageRows, settings: PatchCoreSettings, seed: int, device: str
    ) -> None:
        self._candidates = candidates
        self._settings = settings
        self._seed = seed
        self._device = device
        self._grid = majority.shapes.patch_grid
        self._points = candidates.points()
        #: ``[P]`` row of the image that each candidate is from.
        self.image_of_point = np.repeat(candidates.images, candidates.cells.shape[1])
        self._family_of_point = families_of(majority)[self.image_of_point]
        self._cell_of_point = candidates.cells.ravel()
        self._places: Places | None = None
        if settings.nearby is not None:
            self._places = Places(self._grid, settings.nearby)
            self._part_of_point = self._places.part_of_cells(self._cell_of_point)

    def choose(self, size: int, is_left_out: MaskArray | None = None) -> ChosenBank:
        """A bank of at most ``size`` patches.

        Args:
            size: greedy selection stops earlier once every remaining candidate is a copy of a chosen one.
            is_left_out: ``[N]`` majority rows that the bank must not know; mean and projection stay as they
                are. Of a budget that is a share of the patches, the same share of the others' is taken.

        Raises:
            DataError: with ``nearby``, there is a part of the picture that the bank can hold no patches of.
        """
        if self._places is not None and is_left_out is None:
            self._places.require_patches(size, self._part_of_point)
        positions = np.arange(len(self._points))
        if is_left_out is not None:
            positions = self._without(is_left_out)
            if self._settings.bank_ratio is not None:
                size = max(1, round(size * len(positions) / len(self._points)))
        points = self._points[torch.from_numpy(positions)]
        size = min(size, len(points))
        chosen = self._selected(points.to(self._device), positions, size)
        bank, families = points[chosen], self._family_of_point[positions]
        usual = None
        if self._settings.image_score == "top_or_all":
            apart = self._apart(positions, chosen)
            usual = usual_distances(points, families, bank, families[chosen.numpy()], apart)
        positions = positions[chosen.numpy()]
        module = PatchCoreModule(
            self._settings,
            self._candidates.mean,
            self._candidates.projection,
            bank,
            self._grid,
            usual,
            cells=torch.from_numpy(self._cell_of_point[positions]),
        )
        return ChosenBank(positions, module)

    def _without(self, is_left_out: MaskArray) -> IndexArray:
        """Positions of the patches of the other rows."""
        is_kept = ~is_left_out[self.image_of_point]
        if self._places is not None:
            # A part of the picture that only these rows show keeps their patches, or nothing could be said
            # of it.
            lost = np.setdiff1d(self._part_of_point, self._part_of_point[is_kept])
            is_kept |= np.isin(self._part_of_point, lost)
        return np.flatnonzero(is_kept)

    def _selected(self, points: Tensor, positions: IndexArray, size: int) -> Tensor:
        """``[B]`` rows of ``points`` that greedy selection takes, on the CPU."""
        if self._places is None:
            return k_center_greedy(points, size, self._seed).cpu()
        size = min(len(points), max(size, LEAST_OF_A_PART * self._places.n_parts))
        return greedy_by_part(points, self._part_of_point[positions], size, self._seed)

    def _apart(self, positions: IndexArray, chosen: Tensor) -> Callable[[Tensor], Tensor] | None:
        """For rows of the points, which of the chosen are too far to be compared; None where none is."""
        places = self._places
        if places is None:
            return None
        cells = torch.from_numpy(self._cell_of_point[positions])
        return lambda rows: places.are_apart(cells[rows], cells[chosen])
