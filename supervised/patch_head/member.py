"""Patch-wise head: a small network judges each patch, and the highest patches make the image's logit.

A head on pooled features sees one average over the whole picture, in which a small defect drowns. Here each
patch is judged: by its standardised features, by its residual off the normal patches near it, and by how long
that residual is. An image is a bag of patches of which only the bag has a label (multiple-instance learning);
its logit is the mean of its highest patch logits, and the logits of all patches are a map that was learnt
from labels.

Sources: DevNet (Pang et al. 2021, "Explainable Deep Few-shot Anomaly Detection with Deviation Networks",
https://arxiv.org/abs/2108.00462), the mean of the top K patch scores; DRA (Ding et al. 2022,
https://arxiv.org/abs/2203.14506), residuals off normal features. We differ in that the loss is cross-entropy,
so that the score is a logit, and in that the residual is taken from a softly weighted bank.

While the network learns, the bank patches of an image's own group do not exist for it. Otherwise normal
training images would have residuals of 0, which no new image has.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from contracts.files import Arrays
from contracts.member import FitContext, MemberInput
from contracts.rows import ImageRows, IndexArray, majority_positions, real_positions
from supervised.labels import require_every_class
from supervised.logit_member import LogitMember
from supervised.objective import PriorLedger
from supervised.patch_head.module import PatchHeadModule
from supervised.patch_head.settings import PatchHeadSettings
from supervised.patch_head.training import batch_counts, train


class PatchHead(LogitMember[PatchHeadModule]):
    """See the module's docstring. The map holds logits of the minority, patch by patch."""

    name = "patch_head"
    needs: ClassVar[frozenset[MemberInput]] = frozenset({"patches"})
    settings: PatchHeadSettings

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Draw the bank, then train the networks.

        Raises:
            DataError: a class is missing.
        """
        real = real_positions(rows)
        require_every_class(self.name, rows.labels[real], rows.n_classes)
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            module = PatchHeadModule(
                self.settings, rows.shapes.patch_channels, self.settings.bank_patches, rows.n_classes
            )
            group_of_patch = self._set_normal(module, rows.subset(real), context)
            learnt = rows.subset(self._learnt_positions(rows, context.seed))
            module = module.to(context.device)
            inputs = _inputs(module, learnt, group_of_patch)
            train(module, inputs, learnt.labels, context.seed, context.record)
        trained = np.bincount(rows.labels[real], minlength=rows.n_classes)
        shown = batch_counts(self.settings, rows.n_classes)
        ledger = PriorLedger(_shares(trained), _shares(shown), exact=True)
        module.correction.copy_(torch.tensor(ledger.correction))
        self._ledger = ledger.to_json()
        self._module = module.to("cpu").eval()
        return self

    def _learnt_positions(self, rows: ImageRows, seed: int) -> IndexArray:
        """Rows to learn from: all of the last class, and of the others no more than are allowed."""
        others = majority_positions(rows)
        if len(others) > self.settings.max_rows:
            others = np.random.default_rng([seed, 2]).permutation(others)[: self.settings.max_rows]
            # A class that the draw missed keeps a row; batches hold all classes.
            missed = np.setdiff1d(rows.labels[majority_positions(rows)], rows.labels[others])
            first = [np.flatnonzero(rows.labels == label)[0] for label in missed]
            others = np.concatenate([others, np.array(first, dtype=np.int64)])
        return np.sort(np.concatenate([others, np.flatnonzero(rows.labels == rows.n_classes - 1)]))

    def _set_normal(self, module: PatchHeadModule, rows: ImageRows, context: FitContext) -> IndexArray:
        """Draw the bank and set what patches are compared by.

        Args:
            module: whose buffers are set.
            rows: no copies.
            context: of the fit.

        Returns:
            ``[B]`` group of each patch of the bank.
        """
        positions = majority_positions(rows)
        rng = np.random.default_rng([context.seed, 1])
        n_patches = rows.shapes.patch_grid**2
        # A few patches of each image, or one of each of as many images as the bank holds.
        drawn = rng.permutation(positions)[: self.settings.bank_patches]
        normal = rows.subset(np.sort(drawn))
        of_each = np.arange(self.settings.bank_patches) % len(normal)
        cells = np.concatenate(
            [
                rng.choice(n_patches, count, replace=count > n_patches)
                for count in np.bincount(of_each, minlength=len(normal))
            ]
        )
        image = np.sort(of_each)
        module.mean, module.factor, bank = _drawn_patches(normal, image, cells)
        module.bank = (bank - module.mean) * module.factor
        group_of_patch: IndexArray = normal.groups[image]
        module.temperature = self._temperature(module.bank, group_of_patch)
        return group_of_patch

    def _temperature(self, bank: Tensor, group_of_patch: IndexArray) -> Tensor:
        """Softness times the median squared distance of a bank patch to the nearest of another group."""
        groups = torch.from_numpy(group_of_patch)
        squared = torch.cdist(bank, bank).square()
        squared[groups[:, None] == groups] = torch.inf
        nearest = squared.amin(dim=1)
        if not torch.isfinite(nearest).all():
            # All of one group: what is left is the distance to other patches of the same images.
            nearest = torch.cdist(bank, bank).square().fill_diagonal_(torch.inf).amin(dim=1)
        typical = nearest[torch.isfinite(nearest)].median() if len(bank) > 1 else torch.tensor(1.0)
        return (self.settings.softness * typical).clamp_min(1e-3)

    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> PatchHeadModule:
        n_bank, n_channels = arrays["bank"].shape
        return PatchHeadModule(self.settings, n_channels, n_bank, int(meta["n_classes"]))


def _shares(counts: IndexArray) -> tuple[float, ...]:
    """``[K]`` counts as shares."""
    return tuple((counts / counts.sum()).tolist())


def _drawn_patches(normal: ImageRows, image: IndexArray, cells: IndexArray) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and 1 / deviation ``[C]`` of all patches, and ``[B, C]`` drawn ones.

    Args:
        normal: images.
        image: ``[B]`` ascending positions.
        cells: ``[B]`` the patch of the image.
    """
    n_channels = normal.shapes.patch_channels
    total, squares = (torch.zeros(n_channels, dtype=torch.float64) for _ in range(2))
    count, start, drawn = 0, 0, []
    for batch in normal.patches():
        patches = torch.from_numpy(batch).flatten(start_dim=2).transpose(1, 2)
        flat = patches.reshape(-1, n_channels).double()
        total, squares, count = total + flat.sum(dim=0), squares + flat.square().sum(dim=0), count + len(flat)
        mine = (image >= start) & (image < start + len(batch))
        drawn.append(patches[torch.from_numpy(image[mine] - start), torch.from_numpy(cells[mine])])
        start += len(batch)
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0.0)
    # A channel that is silent on normal images would drown the others where it speaks: it keeps a share of
    # the typical deviation.
    typical = float(variance.mean())
    floor = 0.01 * typical if typical > 0.0 else 1.0
    return mean.float(), (variance + floor).rsqrt().float(), torch.cat(drawn)


def _inputs(module: PatchHeadModule, rows: ImageRows, group_of_patch: IndexArray) -> Tensor:
    """``[N, P, 2C + 1]`` inputs of training images in half precision, without their own groups' patches."""
    parts, start = [], 0
    with torch.no_grad():
        for batch in rows.patches(16):
            own = rows.groups[start : start + len(batch), None] == group_of_patch
            # One group that fills the bank cannot be hidden from itself: nothing would be left.
            own &= ~own.all(axis=1, keepdims=True)
            device = module.bank.device
            patches = torch.from_numpy(batch).to(device)
            parts.append(module.inputs(patches, torch.from_numpy(own).to(device)).half())
            start += len(batch)
    return torch.cat(parts)
