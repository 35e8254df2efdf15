"""A bank chosen from candidates, and chosen again without some of their images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from contracts.rows import ImageRows, IndexArray, MaskArray
from oneclass.majority import families_of
from oneclass.patchcore.candidates import Candidates
from oneclass.patchcore.coreset import k_center_greedy
from oneclass.patchcore.module import PatchCoreModule
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

    def choose(self, size: int, is_left_out: MaskArray | None = None) -> ChosenBank:
        """A bank of at most ``size`` patches.

        Args:
            size: greedy selection stops earlier once every remaining candidate is a copy of a chosen one.
            is_left_out: ``[N]`` majority rows that the bank must not know; mean and projection stay as they
                are. Of a budget that is a share of the patches, the same share of the others' is taken.
        """
        positions = np.arange(len(self._points))
        if is_left_out is not None:
            positions = np.flatnonzero(~is_left_out[self.image_of_point])
            if self._settings.bank_ratio is not None:
                size = max(1, round(size * len(positions) / len(self._points)))
        points = self._points[torch.from_numpy(positions)]
        size = min(size, len(points))
        chosen = k_center_greedy(points.to(self._device), size, self._seed).cpu()
        bank, families = points[chosen], self._family_of_point[positions]
        usual = None
        if self._settings.image_score == "top_or_all":
            usual = usual_distances(points, families, bank, families[chosen.numpy()])
        module = PatchCoreModule(
            self._settings, self._candidates.mean, self._candidates.projection, bank, self._grid, usual
        )
        return ChosenBank(positions[chosen.numpy()], module)
