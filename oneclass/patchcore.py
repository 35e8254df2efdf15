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
from torch import Tensor, nn

from contracts.errors import DataError, MemberCollapsedError
from contracts.files import Arrays
from contracts.member import FitContext, Member, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows, IndexArray, majority_positions
from features.apply import score_with_module
from features.tensors import TrunkFeatures
from oneclass.bank_growth import patches_to_add
from oneclass.bank_origin import BankOrigin
from oneclass.collapse import require_distinct_scores
from oneclass.coreset import k_center_greedy
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
            DataError: no majority rows.
            MemberCollapsedError: the bank cannot tell the training images apart.
        """
        normal = majority_positions(rows)
        if len(normal) == 0:
            raise DataError("patchcore: no majority images to learn from. Check the labels.")
        candidates = torch.from_numpy(self._draw_patches(rows.subset(normal), context.seed))
        mean = candidates.mean(dim=0)
        centred = candidates.sub_(mean)
        projection = self._principal_axes(centred)
        points = (centred if projection is None else centred @ projection).to(context.device)
        chosen = k_center_greedy(points, self.settings.bank_size, context.seed)
        is_exhaustive = len(chosen) < self.settings.bank_size or len(chosen) == len(points)
        module = PatchCoreModule(self.settings, mean, projection, points[chosen].cpu())
        self._require_alive(module, rows.subset(normal), is_exhaustive)
        self._module = module
        images, cells = self._draw_places(rows.subset(normal), context.seed)
        of_image = np.repeat(rows.digests[normal[images]], cells.shape[1])
        self.origin = BankOrigin.of_patches(of_image[chosen.numpy()], cells.ravel()[chosen.numpy()])
        return self

    def add_normal(self, rows: ImageRows) -> int:
        """Grow the bank by the patches of further normal images that it lacks (:mod:`oneclass.bank_growth`).

        No distance to the bank grows by it. Mean and projection stay as they were fitted.
        """
        module = self.to_module()
        patches = torch.from_numpy(np.concatenate(list(rows.patches())))
        points = module.projected(patches).flatten(end_dim=1)
        added = patches_to_add(module.bank, points)
        grown = torch.cat([module.bank, points[added]])
        self._module = PatchCoreModule(self.settings, module.mean, module.projection, grown)
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

    def _draw_places(self, normal: ImageRows, seed: int) -> tuple[IndexArray, IndexArray]:
        """Positions ``[n]`` of the images that give patches, and the cells ``[n, m]`` of each, at random."""
        cells = normal.shapes.patch_grid**2
        per_image = max(1, min(cells, self.settings.candidate_patches // len(normal)))
        generator = np.random.default_rng(seed)
        images = np.arange(len(normal))
        # Beyond candidate_patches images, only as many images as there may be candidates give one each.
        if len(normal) > self.settings.candidate_patches:
            images = np.sort(generator.choice(len(normal), self.settings.candidate_patches, replace=False))
        places = [np.argsort(generator.random(cells))[:per_image] for _ in images]
        return images, np.stack(places)

    def _draw_patches(self, normal: ImageRows, seed: int) -> FloatArray:
        """``[P, C]`` patches, the same number from every image, at random places."""
        images, places = self._draw_places(normal, seed)
        drawn: list[FloatArray] = []
        for batch in normal.subset(images).patches():
            patches_NPC = batch.reshape(len(batch), batch.shape[1], -1).transpose(0, 2, 1)
            start = sum(map(len, drawn))
            of_batch = places[start : start + len(batch), :, None]
            drawn.append(np.take_along_axis(patches_NPC, of_batch, axis=1))
        return np.concatenate(drawn).reshape(-1, normal.shapes.patch_channels)

    def _principal_axes(self, centred: Tensor) -> Tensor | None:
        """PCA's projection ``[C, k]`` of centred ``[P, C]`` patches; None where it would keep all."""
        n_patches, n_channels = centred.shape
        if self.settings.pca_dim is None or self.settings.pca_dim >= n_channels:
            return None
        covariance = (centred.T @ centred / n_patches).double()
        axes: Tensor = torch.linalg.eigh(covariance).eigenvectors.flip(1)  # from the largest variance down
        return axes[:, : self.settings.pca_dim].float().contiguous()

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
        return arrays, {}

    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:  # noqa: ARG002
        """Take over a saved state; one of an older version scores the same but has no :attr:`origin`."""
        names = ("mean", "projection", "bank")
        state = {name: torch.from_numpy(np.array(arrays[name])) for name in names if name in arrays}
        self.origin = BankOrigin.from_arrays(arrays)
        self._module = PatchCoreModule(self.settings, state["mean"], state.get("projection"), state["bank"])
        return self


class PatchCoreModule(nn.Module):
    """Nearest-neighbour scoring as two matrix products.

    Args:
        settings: which image score.
        mean: ``[C]`` subtracted from patches. Distances do not depend on it, but their rounding does: the
            matrix product subtracts numbers as large as the squared norms, and trunks with large features
            would lose the difference between them.
        projection: ``[C, k]`` for centred patches, or None for k = C.
        bank: ``[B, k]`` majority patches, centred and projected.
    """

    mean: Tensor
    projection: Tensor | None
    bank: Tensor
    minus_two_bank: Tensor
    bank_norm: Tensor

    def __init__(
        self, settings: PatchCoreSettings, mean: Tensor, projection: Tensor | None, bank: Tensor
    ) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("mean", mean)
        self.register_buffer("projection", projection)
        self.register_buffer("bank", bank)
        # What depends on the bank alone is computed once.
        self.register_buffer("minus_two_bank", -2.0 * bank.T.contiguous(), persistent=False)
        self.register_buffer("bank_norm", (bank * bank).sum(dim=1), persistent=False)

    def projected(self, patches: Tensor) -> Tensor:
        """``[N, C, g, g]`` patch features → ``[N, P, k]`` points of the space that the bank lies in."""
        patches_NPC = patches.flatten(start_dim=2).transpose(1, 2) - self.mean
        return patches_NPC if self.projection is None else torch.matmul(patches_NPC, self.projection)

    def forward(self, features: TrunkFeatures) -> tuple[Tensor, Tensor]:
        """Return image scores ``[N, 1]`` and the patch map ``[N, g, g]``, both distances."""
        grid = features.patches.shape[-1]
        patches_NPk = self.projected(features.patches)
        # |x - b|^2 = |x|^2 + (|b|^2 - 2 x.b): the minimum over b needs the bracket alone.
        bracket = torch.matmul(patches_NPk, self.minus_two_bank) + self.bank_norm
        squared = (patches_NPk * patches_NPk).sum(dim=2)
        if self.settings.image_score == "reweighted":
            smallest, nearest = bracket.min(dim=2)
            distances = (squared + smallest).clamp_min(0.0).sqrt()
            score = self._reweighted(patches_NPk, distances, nearest)
        else:
            distances = (squared + bracket.amin(dim=2)).clamp_min(0.0).sqrt()
            n_top = min(self.settings.top_patches, distances.shape[1])
            score = distances.topk(n_top, dim=1).values.mean(dim=1)
        return score[:, None], distances.reshape(-1, grid, grid)

    def _reweighted(self, patches_NPk: Tensor, distances: Tensor, nearest: Tensor) -> Tensor:
        """Equation 7: s = (1 - exp(s*) / sum over N_b(m*) of exp|m_test - m|) s*."""
        n_neighbours = min(self.settings.neighbours, self.bank.shape[0])
        farthest = distances.argmax(dim=1, keepdim=True)
        s_star = distances.gather(1, farthest)[:, 0]
        m_test = patches_NPk.gather(1, farthest[:, :, None].expand(-1, 1, patches_NPk.shape[2]))
        m_star = self.bank[nearest.gather(1, farthest)[:, 0]]
        # N_b(m*): the bank patches nearest to m*, itself among them.
        to_star = torch.matmul(m_star, self.minus_two_bank) + self.bank_norm
        neighbours = self.bank[to_star.topk(n_neighbours, dim=1, largest=False).indices]
        to_test = (m_test - neighbours).square().sum(dim=2).sqrt()
        return (1.0 - torch.softmax(to_test, dim=1)[:, 0]) * s_star
