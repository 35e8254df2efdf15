"""A head on the frozen backbone: standardised pooled features, a linear layer or a small MLP.

L-BFGS minimises the objective over all rows at once. A linear head is therefore the unique optimum, and every
fit of the same rows gives the same head.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from contracts.files import Arrays
from contracts.member import FitContext, MemberInput
from contracts.rows import ImageRows, LabelArray, MaskArray, real_positions
from features.spread import floored_spread
from features.tensors import BackboneFeatures
from supervised.cosine import CosineHead
from supervised.labels import require_every_class, score_columns
from supervised.lbfgs import minimise
from supervised.logit_member import LogitMember
from supervised.objective import Objective
from supervised.samplers import CountArray, class_quotas, draw_rows
from supervised.settings import CnnSettings
from supervised.synthetic.features import resample_features

_STEADINESS = 0.1
"""Weight of the mean squared change of the logits from an image to its view, beside the mean loss over rows.

Learning from views as from further rows changes nothing, because the loss of an easy row hardly depends on
its logit. Larger weights halve the change under noise as this one does, and cost accuracy on some data; see
``docs/results/views.md``.
"""

# Progressive sampling's shares are averaged over this many points of the training.
_MEAN_EPOCHS = 21


class HeadModule(nn.Module):
    """Standardisation and head.

    Attributes:
        mean: ``[D]`` of the training rows.
        std: ``[D]`` that features are divided by; see :mod:`features.spread`.

    Args:
        settings: width of the hidden layer.
        pooled_dim: D.
        n_classes: K.
    """

    mean: Tensor
    std: Tensor
    correction: Tensor

    def __init__(self, settings: CnnSettings, pooled_dim: int, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.register_buffer("mean", torch.zeros(pooled_dim))
        self.register_buffer("std", torch.ones(pooled_dim))
        # Brings the logits back to the training rows' class shares; see supervised.objective.PriorLedger.
        self.register_buffer("correction", torch.zeros(n_classes))
        if settings.classifier == "cosine":
            self.head: nn.Module = CosineHead(pooled_dim, n_classes)
        elif settings.hidden:
            self.head = nn.Sequential(
                nn.Linear(pooled_dim, settings.hidden), nn.GELU(), nn.Linear(settings.hidden, n_classes)
            )
        else:
            linear = nn.Linear(pooled_dim, n_classes)
            # The objective is convex, so its optimum does not depend on the start; zeros are a near one.
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
            self.head = linear

    def standardise(self, pooled: Tensor) -> Tensor:
        """Pooled features with mean 0 over the training rows, divided by :attr:`std`."""
        return (pooled - self.mean) / self.std

    def as_linear(self) -> tuple[Tensor, Tensor]:
        """``[K, D]`` weights and ``[K]`` biases of a linear head, for features before standardisation."""
        linear: Any = self.head
        weight = linear.weight.detach() / self.std
        bias: Tensor = linear.bias.detach() - weight @ self.mean
        return weight, bias

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, None]:
        """Return score columns; there is no map."""
        return score_columns(self.head(self.standardise(features.pooled)) + self.correction), None


class Views(NamedTuple):
    """Features of M images and of a view of each, ``[M, D]``."""

    images: Tensor
    views: Tensor

    def standardised(self, module: HeadModule) -> Views:
        """The same as the module standardises features."""
        return Views(*(module.standardise(each.to(module.mean.device)) for each in self))

    def mean_change(self, head: nn.Module) -> Tensor:
        """Mean over images of the squared change of the logits, summed over classes.

        What all logits have in common does not enter: no probability depends on it.
        """
        change: Tensor = head(self.views) - head(self.images)
        return (change - change.mean(dim=1, keepdim=True)).square().sum(dim=1).mean()


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
        views = Views(pooled[view_of[is_view]], pooled[is_view]) if is_view.any() else None
        kept = ~is_view
        return self.fit_features(
            pooled[kept], rows.labels[kept], rows.n_classes, context, rows.is_copy[kept], views
        )

    def fit_features(
        self,
        pooled: Tensor,
        labels: LabelArray,
        n_classes: int,
        context: FitContext,
        is_copy: MaskArray | None = None,
        views: Views | None = None,
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
        """
        is_real = np.ones(len(labels), dtype=np.bool_) if is_copy is None else ~is_copy
        pooled = pooled.to(context.device)
        real = pooled[torch.from_numpy(is_real).to(context.device)]
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
                pooled.cpu().numpy(), labels, n_classes, self.settings.synthetic, context.seed, context.report
            )
            pooled = torch.cat([pooled, torch.from_numpy(made).to(context.device)])
            shown_labels = np.concatenate([labels, made_labels])
        # Copies and synthetic rows are not evidence of how frequent a class is.
        trained = np.bincount(labels[is_real], minlength=n_classes).astype(np.int64)
        steady = None if views is None else views.standardised(module)
        self._fit_head(module, module.standardise(pooled), shown_labels, trained, context.seed, steady)
        self._module = module.to("cpu")
        return self

    def _fit_head(
        self,
        module: HeadModule,
        standardised: Tensor,
        labels: LabelArray,
        trained: CountArray,
        seed: int,
        views: Views | None,
    ) -> None:
        """Minimise over the rows that the sampler draws.

        Undersampling removes rows. The other samplers only show rows more or less often. A head sees all rows
        at once, so a row is weighted by how often training would draw it on average.
        """
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
                self._minimise(module, objective, standardised[at], tensor_labels[at], None, views)
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
            self._minimise(module, objective, standardised, tensor_labels, weights, views)
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
            value = value + 0.5 * self.settings.l2 / shown * penalty()
            return value if views is None else value + _STEADINESS * views.mean_change(head)

        minimise(loss, list(head.parameters()), self.settings.max_iterations)

    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> HeadModule:
        return HeadModule(self.settings, len(arrays["mean"]), int(meta["n_classes"]))
