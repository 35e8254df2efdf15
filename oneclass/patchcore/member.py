"""PatchCore: distance of an image's patches to a small bank of majority patches.

Source: Roth et al. 2022, "Towards Total Recall in Industrial Anomaly Detection"
(https://arxiv.org/abs/2106.08265). Where we differ, by default: patches are projected by PCA, the
bank has a fixed size instead of a share of all patches, and the image score is the mean of the few
farthest patches. With ``pca_dim=None`` and ``image_score="reweighted"`` and the same bank, the scores
are those of anomalib's PatchcoreModel.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch

from contracts.errors import DataError, MemberCollapsedError
from contracts.files import Arrays
from contracts.member import FitContext, Member, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows, majority_positions
from features.apply import score_with_module
from oneclass.collapse import require_distinct_scores
from oneclass.patchcore.bank_budget import resolve_bank_size
from oneclass.patchcore.bank_growth import patches_to_add
from oneclass.patchcore.bank_origin import BankOrigin
from oneclass.patchcore.candidates import Candidates
from oneclass.patchcore.contamination import rows_to_leave_out
from oneclass.patchcore.coreset import k_center_greedy
from oneclass.patchcore.module import PatchCoreModule
from oneclass.settings import PatchCoreSettings


class PatchCore(Member):
    """See the module's docstring. Scores are Euclidean distances, 0 or more."""

    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"

    def __init__(self, settings: PatchCoreSettings) -> None:
        self.settings = settings
        self._module: PatchCoreModule | None = None
        self.origin: BankOrigin | None = None

    @property
    def needs(self) -> frozenset[MemberInput]:
        """Patch features only."""
        return frozenset({"patches"})

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Choose the bank from the majority's patches.

        Raises:
            DataError: no majority rows, or a budget that they cannot fill.
            MemberCollapsedError: the bank cannot tell the training images apart.
        """
        normal = majority_positions(rows)
        if len(normal) == 0:
            raise DataError("patchcore: no majority images to learn from. Check the labels.")
        majority = self._without_suspicious(rows.subset(normal), context)
        candidates = Candidates(majority, self.settings, context.seed)
        size = self._bank_size(majority, candidates, context)
        points = candidates.points().to(context.device)
        chosen = k_center_greedy(points, size, context.seed)
        is_exhaustive = len(chosen) < size or len(chosen) == len(points)
        bank = points[chosen.to(points.device)].cpu()
        module = PatchCoreModule(
            self.settings, candidates.mean, candidates.projection, bank, majority.shapes.patch_grid
        )
        self._require_alive(module, majority, is_exhaustive)
        self._module = module
        images, cells = candidates.images, candidates.cells
        of_image = np.repeat(majority.digests[images], cells.shape[1])
        self.origin = BankOrigin.of_patches(of_image[chosen.numpy()], cells.ravel()[chosen.numpy()])
        return self

    def _without_suspicious(self, majority: ImageRows, context: FitContext) -> ImageRows:
        """The majority rows that the bank may learn from; see :mod:`oneclass.patchcore.contamination`."""
        left_out = rows_to_leave_out(majority, self.settings, context.seed)
        if self.settings.contamination_z is not None:
            context.report(
                f"{len(left_out)} of {len(majority)} majority images left out of the bank: beyond "
                f"{self.settings.contamination_z:g} robust standard deviations in inner cross-fitting."
            )
            digests = "".join(f"{digest}\n" for digest in majority.digests[left_out])
            context.keep("left-out.txt", digests.encode("ascii"))
        return majority.subset(np.setdiff1d(np.arange(len(majority)), left_out))

    def _bank_size(self, majority: ImageRows, candidates: Candidates, context: FitContext) -> int:
        settings = self.settings
        n_candidates = len(candidates)
        size = resolve_bank_size(settings, majority.shapes, len(majority), n_candidates, candidates.dim)
        if settings.bank_size is None:
            context.report(f"{settings.budget} is a bank of {size} patches here.")
        return size

    def add_normal(self, rows: ImageRows) -> int:
        """Grow the bank by the patches of further normal images that it lacks.

        No distance to the bank grows by it. Mean and projection stay as they were fitted. See
        :mod:`oneclass.patchcore.bank_growth`.
        """
        module = self.to_module()
        patches = torch.from_numpy(np.concatenate(list(rows.patches())))
        points = module.projected(patches).flatten(end_dim=1)
        added = patches_to_add(module.bank, points)
        grown = torch.cat([module.bank, points[added]])
        self._module = PatchCoreModule(self.settings, module.mean, module.projection, grown, module.grid)
        if self.origin is not None:
            image, cell = np.divmod(added.numpy(), rows.shapes.patch_grid**2)
            self.origin = self.origin.joined(BankOrigin.of_patches(rows.digests[image], cell))
        return len(added)

    def _require_alive(self, module: PatchCoreModule, normal: ImageRows, is_exhaustive: bool) -> None:
        if is_exhaustive:
            # Every different candidate is in the bank, so training images are at distance 0 from it and
            # their scores say nothing; a bank of a single patch says that all candidates are copies.
            if len(module.bank) == 1:
                raise MemberCollapsedError("patchcore: collapsed, all training patches are the same.")
            return
        sample = np.arange(0, len(normal), max(1, len(normal) // 256))
        scores = score_with_module(module, normal.subset(sample), self.needs)
        require_distinct_scores("patchcore", scores)

    def score(self, rows: ImageRows) -> FloatArray:
        """``[N, 1]`` distances."""
        return score_with_module(self.to_module(), rows, self.needs)

    def to_module(self) -> PatchCoreModule:
        """The fitted module."""
        if self._module is None:
            raise DataError("patchcore: not fitted yet.")
        return self._module

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Mean and bank, the projection where there is one, and where the bank's patches come from."""
        module = self.to_module()
        arrays: Arrays = {"mean": module.mean.numpy(), "bank": module.bank.numpy()}
        if self.origin is not None:
            arrays.update(self.origin.arrays())
        if module.projection is not None:
            arrays["projection"] = module.projection.numpy()
        return arrays, {"grid": module.grid}

    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:
        """Take over a saved state; one of an older version scores the same but has no :attr:`origin`."""
        names = ("mean", "projection", "bank")
        state = {name: torch.from_numpy(np.array(arrays[name])) for name in names if name in arrays}
        self.origin = BankOrigin.from_arrays(arrays)
        self._module = PatchCoreModule(
            self.settings, state["mean"], state.get("projection"), state["bank"], meta.get("grid")
        )
        return self
