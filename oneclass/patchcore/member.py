"""PatchCore: distance of an image's patches to a small bank of majority patches.

Source: Roth et al. 2022, "Towards Total Recall in Industrial Anomaly Detection"
(https://arxiv.org/abs/2106.08265). By default we differ in two ways. The bank has a fixed size instead of a
share of all patches. The image score asks for odd places and for an image that is odd as a whole
(:mod:`oneclass.patchcore.usual`). With ``pca_dim=None``, ``image_score="reweighted"`` and the same bank,
scores are those of anomalib's PatchcoreModel. ``whiten`` makes distances Mahalanobis's, as in anomalib's
MHPatchcore. docs/results/patchcore.md has what each step is worth.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Self

import numpy as np
import torch

from contracts.errors import MemberCollapsedError
from contracts.files import Arrays
from contracts.member import DecidingPatch, FitContext, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows
from features.apply import batch_size_for
from features.member import ModuleMember
from features.score_scale import ScoreScale
from oneclass.collapse import are_distinct, require_distinct_scores
from oneclass.majority import majority_rows
from oneclass.patchcore.bank_budget import resolve_bank_size
from oneclass.patchcore.bank_choice import BankChoice
from oneclass.patchcore.bank_growth import Cells, patches_to_add
from oneclass.patchcore.bank_origin import BankOrigin
from oneclass.patchcore.candidates import Candidates
from oneclass.patchcore.contamination import rows_to_leave_out
from oneclass.patchcore.module import PatchCoreModule
from oneclass.patchcore.nearby import Places
from oneclass.patchcore.nearest_patches import deciding_patches
from oneclass.patchcore.reference import means_of_new_images
from oneclass.patchcore.settings import PatchCoreSettings


class PatchCore(ModuleMember[PatchCoreModule]):
    """See the module's docstring.

    The map holds distances, 0 or more. So do raw scores, except those of ``top_or_all``, which are
    standardised already and may be negative.

    Attributes:
        origin: where each patch of the bank comes from; None before the member is fitted.
    """

    name = "patchcore"
    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"
    needs: ClassVar[frozenset[MemberInput]] = frozenset({"patches"})
    settings: PatchCoreSettings
    origin: BankOrigin | None = None

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Choose the bank from the majority's patches.

        Raises:
            DataError: no majority rows, or too few patches for the budget.
            MemberCollapsedError: the bank cannot tell the training images apart.
        """
        # Suspicious rows leave before anything is estimated, so that they influence neither mean nor
        # projection.
        majority = self._without_suspicious(majority_rows(self.name, rows), context)
        candidates = Candidates(majority, self.settings, context.seed)
        size = self._bank_size(majority, candidates, context)
        choice = BankChoice(candidates, majority, self.settings, context.seed, context.device)
        chosen, module = choice.choose(size)
        # Fewer than asked for means that only copies were left, so the bank covers every distinct candidate.
        is_exhaustive = len(chosen) < size or len(chosen) == len(candidates)
        self._require_alive(module, majority, is_exhaustive)
        of_image = majority.digests[choice.image_of_point[chosen]]
        self.origin = BankOrigin.of_patches(of_image, candidates.cells.ravel()[chosen])
        means = means_of_new_images(
            module, self.origin, majority, lambda part: choice.choose(size, part).module, context.seed
        )
        self._module = module
        if self.settings.image_score != "top_or_all":
            self._standardise(means)
            return self
        scales = [ScoreScale.of_reference(of_one).numbers for of_one in means.T]
        module.scales.copy_(torch.tensor(np.array(scales)))
        self._standardise(module.score_of(torch.from_numpy(means)).numpy(), may_be_negative=True)
        return self

    def _without_suspicious(self, majority: ImageRows, context: FitContext) -> ImageRows:
        """The majority rows that may enter the bank; see :mod:`oneclass.patchcore.contamination`."""
        left_out = rows_to_leave_out(majority, self.settings, context.seed)
        if self.settings.contamination_z is not None:
            context.report(
                f"{len(left_out)} of {len(majority)} majority images excluded from the bank: more than "
                f"{self.settings.contamination_z:g} robust standard deviations above the median in inner "
                "cross-fitting."
            )
            digests = "".join(f"{digest}\n" for digest in majority.digests[left_out])
            context.keep("left-out.txt", digests.encode("ascii"))
        return majority.subset(np.setdiff1d(np.arange(len(majority)), left_out))

    def _bank_size(self, majority: ImageRows, candidates: Candidates, context: FitContext) -> int:
        settings = self.settings
        n_candidates = len(candidates)
        size = resolve_bank_size(settings, majority.shapes, len(majority), n_candidates, candidates.dim)
        if settings.bank_size is None:
            context.report(f"{settings.budget} gives a bank of {size} patches.")
        return size

    def add_normal(self, rows: ImageRows) -> int:
        """Add the patches of further normal images that the bank lacks.

        A larger bank can only reduce distances. Mean, projection and the scale of the scores stay as they
        were fitted. See :mod:`oneclass.patchcore.bank_growth`.
        """
        module = self.raw_module()
        patches = torch.from_numpy(np.concatenate(list(rows.patches())))
        points = module.projected(patches).flatten(end_dim=1)
        # Nothing is fitted again: another projection would move every patch of the bank, and another scale
        # every score that the stacker was fitted on.
        assert self.origin is not None  # set whenever the module is
        n_cells = rows.shapes.patch_grid**2
        cells = torch.from_numpy(self.origin.cell).long()
        where = None
        if self.settings.nearby is not None:
            places = Places(rows.shapes.patch_grid, self.settings.nearby)
            where = Cells(places, cells, torch.arange(len(points)) % n_cells)
        added = patches_to_add(module.bank, points, where)
        grown = torch.cat([module.bank, points[added]])
        # How far normal patches lie around the new ones is not known. The widest that the bank knows is
        # allowed, so that no relative distance grows, either.
        usual = torch.cat([module.usual, module.usual.max().expand(len(added))])
        image, cell = np.divmod(added.numpy(), n_cells)
        self._module = PatchCoreModule(
            self.settings,
            module.mean,
            module.projection,
            grown,
            module.grid,
            usual,
            module.scales,
            torch.cat([cells, torch.from_numpy(cell)]),
        )
        self.origin = self.origin.joined(BankOrigin.of_patches(rows.digests[image], cell))
        return len(added)

    def _require_alive(self, module: PatchCoreModule, normal: ImageRows, is_exhaustive: bool) -> None:
        if is_exhaustive:
            # Every distinct candidate is in the bank, so training images are at distance 0 from it and
            # their scores say nothing. A bank of one patch still shows that all candidates are copies.
            if len(module.bank) == 1:
                raise MemberCollapsedError("patchcore: collapsed, all training patches are the same.")
            return
        # 256 evenly spaced images show a collapse as well as all of them would.
        sample = normal.subset(np.arange(0, len(normal), max(1, len(normal) // 256)))
        batches = sample.patches(batch_size_for(sample.shapes, self.needs))
        with torch.inference_mode():
            means = torch.cat([module.means(torch.from_numpy(patches))[0] for patches in batches])
        # Each mean by itself: of images of a thousand patches nearly all have some at the bank's cover
        # radius, and the farthest are alike where the mean of all is not.
        *others, last = means.numpy().T[:, :, None]
        if not any(are_distinct(each) for each in others):
            require_distinct_scores("patchcore", last)

    def deciding_patches(
        self, patches: FloatArray, n_nearest: int, without: Collection[str] = (), most: int = 3
    ) -> list[DecidingPatch]:
        """See :class:`contracts.member.ExplainingMember` and :mod:`oneclass.patchcore.nearest_patches`."""
        module = self.raw_module()
        assert self.origin is not None  # set whenever the module is
        return deciding_patches(module, self.origin, torch.from_numpy(patches), n_nearest, without, most)

    def maps_without_own(self, rows: ImageRows) -> FloatArray:
        """See :class:`contracts.member.ExplainingMember`: an image's own patches of the bank do not count."""
        module = self.raw_module()
        assert self.origin is not None  # set whenever the module is
        of_patch = self.origin.sha256[self.origin.image]
        maps, done = [], 0
        for patches in rows.patches(batch_size_for(rows.shapes, self.needs)):
            own = rows.digests[done : done + len(patches), None] == of_patch
            with torch.inference_mode():
                maps.append(module.means(torch.from_numpy(patches), torch.from_numpy(own))[1])
            done += len(patches)
        return torch.cat(maps).numpy()

    def _saved(self, module: PatchCoreModule) -> tuple[Arrays, dict[str, Any]]:
        """Mean, bank, projection and usual distances if there are any, the origin of the bank's patches."""
        assert self.origin is not None  # set whenever the module is
        arrays: Arrays = {"mean": module.mean.numpy(), "bank": module.bank.numpy(), **self.origin.arrays()}
        if module.projection is not None:
            arrays["projection"] = module.projection.numpy()
        if self.settings.image_score == "top_or_all":
            arrays |= {"usual": module.usual.numpy(), "scales": module.scales.numpy()}
        return arrays, {"grid": module.grid}

    def _load(self, arrays: Arrays, meta: dict[str, Any]) -> PatchCoreModule:
        """The saved module.

        Raises:
            ModelError: the state does not say where the bank's patches come from.
        """
        self.origin = BankOrigin.from_arrays(arrays)
        return self._empty_module(arrays, meta)

    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> PatchCoreModule:
        # Built of the saved numbers at once: the slices of the bank are computed from it.
        names = ("mean", "projection", "bank", "usual", "scales")
        state = {name: torch.from_numpy(np.array(arrays[name])) for name in names if name in arrays}
        return PatchCoreModule(
            self.settings,
            state["mean"],
            state.get("projection"),
            state["bank"],
            meta["grid"],
            state.get("usual"),
            state.get("scales"),
            torch.from_numpy(arrays["origin_cell"].astype(np.int64)) if "origin_cell" in arrays else None,
        )
