"""A head on the frozen backbone: standardised pooled features, a linear layer or a small MLP.

L-BFGS minimises the objective over all rows at once. A linear head is therefore the unique optimum, and every
fit of the same rows gives the same head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from contracts.files import Arrays
from contracts.member import FitContext, MemberInput
from contracts.rows import ImageRows, IndexArray, LabelArray, MaskArray, real_positions
from features.spread import floored_spread
from supervised.cosine import CosineHead
from supervised.head_module import HeadModule, HeadRows, Ready, Views, log_losses
from supervised.labels import require_every_class
from supervised.lbfgs import EXACT, Tolerance, minimise
from supervised.logit_member import LogitMember
from supervised.objective import Objective
from supervised.ridge import GRID, ChosenRidge, choose_ridge, folds_to_choose_on
from supervised.samplers import CountArray, class_quotas, draw_rows
from supervised.settings import CnnSettings
from supervised.synthetic.features import resample_features

_STEADINESS = 0.1
"""Weight of the mean squared change of the logits from an image to its view, beside the mean loss over rows.

Learning from views as from further rows changes nothing, because the loss of an easy row hardly depends on
its logit. Larger weights halve the change under noise as this one does, and cost accuracy on some data; see
``docs/results/views.md``.
"""

_RIDGE_UNCHOSEN = 100.0
"""The default; what ``l2: auto`` is where a class has too few independent images to judge ridges on."""

_ROUGHLY = Tolerance(gradient=1e-4, change=1e-6)
"""Losses of neighbouring ridges differ by far more."""

# Progressive sampling's shares are averaged over this many points of the training.
_MEAN_EPOCHS = 21


def _nobody(sentence: str) -> None:
    """Tell nobody."""


class HeadCnn(LogitMember[HeadModule]):
    """A CNN member with ``tune: head``: a head on the frozen backbone's pooled features."""

    name = "cnn"
    needs: ClassVar[frozenset[MemberInput]] = frozenset({"pooled"})
    settings: CnnSettings

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Fit standardisation and head on the rows.

        Raises:
            DataError: a class is missing, or too small to make synthetic rows from.
        """
        require_every_class("cnn", rows.labels[real_positions(rows)], rows.n_classes)
        pooled, view_of = torch.from_numpy(rows.pooled()), rows.view_of
        is_view = view_of >= 0
        views = None
        if is_view.any():
            views = Views(pooled[view_of[is_view]], pooled[is_view], rows.groups[is_view])
        kept = ~is_view
        return self.fit_features(
            pooled[kept],
            rows.labels[kept],
            rows.n_classes,
            context,
            rows.is_copy[kept],
            views,
            rows.groups[kept],
        )

    def fit_features(
        self,
        pooled: Tensor,
        labels: LabelArray,
        n_classes: int,
        context: FitContext,
        is_copy: MaskArray | None = None,
        views: Views | None = None,
        groups: IndexArray | None = None,
    ) -> Self:
        """Fit on given features.

        Augmented copies are learnt from like other rows, but standardisation and class shares are those of
        the real rows, and the ledger's correction brings the logits back to these shares.

        Args:
            pooled: ``[N, D]`` float32.
            labels: ``[N]`` class index; every class has rows.
            n_classes: K.
            context: seed and device.
            is_copy: ``[N]`` whether a row is an augmented copy; None means that none is.
            views: of rows among these; their logits are to be those of their images. None where there are
                none.
            groups: ``[N]`` group numbers, which ``l2: auto`` does not split; None means that every row is a
                group of its own.
        """
        rows = HeadRows(
            pooled.to(context.device),
            labels,
            np.zeros(len(labels), dtype=np.bool_) if is_copy is None else is_copy,
            np.arange(len(labels)) if groups is None else groups,
            views,
        )
        l2 = self.settings.l2
        if l2 == "auto":
            chosen = self._chosen_ridge(rows, n_classes, context)
            context.report(chosen.sentence)
            l2, self._chosen = chosen.l2, chosen.to_json()
        ready = self._ready(rows, n_classes, context, context.report)
        self._fit_head(ready, l2, context.seed)
        self._module = ready.module.to("cpu")
        return self

    def _chosen_ridge(self, rows: HeadRows, n_classes: int, context: FitContext) -> ChosenRidge:
        """Cross-fit every ridge within the rows; copies and views go where their group goes."""
        real = np.flatnonzero(~rows.is_copy)
        folds = folds_to_choose_on(rows.labels[real], rows.groups[real], n_classes)
        if folds is None:
            return ChosenRidge(_RIDGE_UNCHOSEN)
        losses = np.empty((len(GRID), len(real)))
        for fold in np.unique(folds):
            held = real[folds == fold]
            judged = rows.pooled[torch.from_numpy(held).to(rows.pooled.device)], rows.labels[held]
            losses[:, folds == fold] = self._losses(
                rows.without_groups(rows.groups[held]), judged, n_classes, context
            )
        return choose_ridge(losses, rows.groups[real])

    def _losses(
        self, learnt: HeadRows, judged: tuple[Tensor, LabelArray], n_classes: int, context: FitContext
    ) -> npt.NDArray[np.float64]:
        """``[R, n]`` log losses of held-out features and labels under each ridge of :data:`GRID`."""
        pooled, labels = judged
        ready = self._ready(learnt, n_classes, context)
        held_out = ready.module.standardise(pooled)
        # One optimum, which each ridge can approach from where the one before ended.
        is_convex = not self.settings.hidden and self.settings.classifier == "linear"
        if is_convex:
            ready, basis = ready.in_own_span(self.settings)
            held_out = held_out @ basis
        losses = []
        for l2 in GRID:
            if not is_convex:
                ready = self._ready(learnt, n_classes, context)
            self._fit_head(ready, l2, context.seed, _ROUGHLY)
            losses.append(log_losses(ready.module, held_out, labels))
        return np.stack(losses)

    def _ready(
        self, rows: HeadRows, n_classes: int, context: FitContext, report: Callable[[str], None] = _nobody
    ) -> Ready:
        """Standardisation set, head at its start, synthetic rows made."""
        pooled, labels = rows.pooled, rows.labels
        real = pooled[torch.from_numpy(~rows.is_copy).to(context.device)]
        with torch.random.fork_rng():
            # Only an MLP starts from random weights; a linear head starts from zeros.
            torch.manual_seed(context.seed)
            module = HeadModule(self.settings, pooled.shape[1], n_classes).to(context.device)
        module.mean.copy_(real.mean(dim=0))
        spread = floored_spread(real.std(dim=0, correction=0).cpu().numpy())
        module.std.copy_(torch.from_numpy(spread))
        shown_labels = labels
        if self.settings.synthetic is not None:
            # After the standardisation was set, which stays that of the real rows.
            made, made_labels = resample_features(
                pooled.cpu().numpy(), labels, n_classes, self.settings.synthetic, context.seed, report
            )
            pooled = torch.cat([pooled, torch.from_numpy(made).to(context.device)])
            shown_labels = np.concatenate([labels, made_labels])
        # Copies and synthetic rows are not evidence of how frequent a class is.
        trained = np.bincount(labels[~rows.is_copy], minlength=n_classes).astype(np.int64)
        steady = None if rows.views is None else rows.views.standardised(module)
        return Ready(module, module.standardise(pooled), shown_labels, trained, steady)

    def _fit_head(self, ready: Ready, l2: float, seed: int, tolerance: Tolerance = EXACT) -> None:
        """Minimise over the rows that the sampler draws, from where the head is.

        Undersampling removes rows. The other samplers only show rows more or less often. A head sees all rows
        at once, so a row is weighted by how often training would draw it on average.
        """
        module, standardised, labels, trained, views = ready
        sampler = self.settings.sampler
        present = np.bincount(labels, minlength=module.n_classes).astype(np.int64)
        tensor_labels = torch.from_numpy(labels).to(standardised.device)
        if sampler.kind in {"undersample", "undersample_each_epoch"}:
            rounds = sampler.rounds if sampler.kind == "undersample_each_epoch" else 1
            solutions = []
            for drawn in (
                draw_rows(sampler, labels, module.n_classes, seed, each, rounds) for each in range(rounds)
            ):
                # Sorted: the order of rows does not matter to the optimum, but it does to the last digits of
                # a sum.
                at = torch.from_numpy(np.sort(drawn)).to(standardised.device)
                shown = np.bincount(labels[drawn], minlength=module.n_classes)
                objective = self._objective(shown, trained, standardised)
                self._minimise(
                    module, objective, standardised[at], tensor_labels[at], None, views, l2, tolerance
                )
                solutions.append([parameter.detach().clone() for parameter in module.head.parameters()])
            with torch.no_grad():
                # The mean of linear heads is the linear head with the mean weights, so this is bagging over
                # balanced subsets (EasyEnsemble, Liu et al. 2009) at the cost of one head in the graph.
                for parameter, values in zip(
                    module.head.parameters(), zip(*solutions, strict=True), strict=True
                ):
                    parameter.copy_(torch.stack(values).mean(dim=0))
        else:
            quotas = np.mean(
                [class_quotas(sampler, present, each, _MEAN_EPOCHS) for each in range(_MEAN_EPOCHS)], axis=0
            )
            objective = self._objective(quotas, trained, standardised)
            weights = None
            if sampler.kind != "none":
                weights = torch.from_numpy((quotas / present)[labels]).float().to(standardised.device)
            self._minimise(module, objective, standardised, tensor_labels, weights, views, l2, tolerance)
        ledger = objective.ledger()
        module.correction.copy_(torch.tensor(ledger.correction))
        self._ledger = ledger.to_json()

    def _objective(self, shown: CountArray, trained: CountArray, like: Tensor) -> Objective:
        counts = torch.from_numpy(np.asarray(shown)).to(like.device)
        settings = self.settings.model_copy(update={"deferred_until": 0.0})
        made_up = self.settings.synthetic is not None
        return Objective(settings, counts, torch.from_numpy(trained).to(like.device), made_up)

    def _minimise(
        self,
        module: HeadModule,
        objective: Objective,
        standardised: Tensor,
        labels: Tensor,
        row_weights: Tensor | None,
        views: Views | None,
        l2: float,
        tolerance: Tolerance,
    ) -> None:
        head = module.head
        shown = float(len(labels) if row_weights is None else row_weights.sum())
        if isinstance(head, CosineHead):
            head.start_at(standardised, labels)

        def penalty() -> Tensor:
            if isinstance(head, CosineHead):
                return head.penalty()
            # Biases are not penalised: the intercept must be free to follow the class shares.
            squares = [each.square().sum() for each in head.parameters() if each.ndim > 1]
            return torch.stack(squares).sum()

        def loss() -> Tensor:
            value = objective(head(standardised), labels, 1.0, row_weights)
            value = value + 0.5 * l2 / shown * penalty()
            return value if views is None else value + _STEADINESS * views.mean_change(head)

        minimise(loss, list(head.parameters()), self.settings.max_iterations, tolerance)

    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> HeadModule:
        return HeadModule(self.settings, len(arrays["mean"]), int(meta["n_classes"]))
