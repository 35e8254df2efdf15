"""An objective: a loss with its class weights and adjustments, and their effect on probabilities.

Class weights, logit adjustments and sampling change the class shares that a network's probabilities refer to.
The ledger records this. If the change is known exactly, it is undone by a constant added to the logits;
otherwise the member is marked for recalibration (which every member gets anyway, out of fold).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from supervised.class_weights import (
    effective_number_weights,
    explicit_weights,
    inverse_frequency_weights,
    ldam_margins,
)
from supervised.losses import auc_margin, cross_entropy, focal, partial_auc, soft_f1, with_margins
from supervised.settings import LossSettings


@dataclass(frozen=True)
class PriorLedger:
    """Which class shares a trained network's logits refer to.

    Attributes:
        trained: ``[K]`` class shares of the training rows, without augmented copies.
        effective: ``[K]`` class shares as the objective saw them.
        exact: whether adding :attr:`correction` brings the logits back to the trained shares exactly
            (for a network that can represent the truth).
    """

    trained: tuple[float, ...]
    effective: tuple[float, ...]
    exact: bool

    @property
    def correction(self) -> tuple[float, ...]:
        """``[K]`` constants to add to the logits, log trained - log effective; zeros if not exact."""
        if not self.exact:
            return (0.0,) * len(self.trained)
        shares = zip(self.trained, self.effective, strict=True)
        return tuple(float(torch.tensor(a / b, dtype=torch.double).log()) for a, b in shares)

    def to_json(self) -> dict[str, Any]:
        """JSON document, kept with the member's state."""
        return {
            "trained": list(self.trained),
            "effective": list(self.effective),
            "exact": self.exact,
            "recalibrate": not self.exact,
        }


class Objective:
    """``objective(logits, labels) -> scalar``, to be minimised.

    Args:
        settings: which loss, with which numbers.
        counts: ``[K]`` rows per class as shown to the network, that is after sampling; all at least 1, on the
            device of the logits.
        trained: ``[K]`` rows per class before sampling and without augmented copies; None if both are the
            same. Copies count as rows shown more often. For the class shares that correction is exact; that
            augmented images differ from real ones is left to calibration, as with random augmentation.
        changing: whether the shown shares change during training, or synthetic rows are among the rows. No
            constant corrects for either.
    """

    def __init__(
        self, settings: LossSettings, counts: Tensor, trained: Tensor | None = None, changing: bool = False
    ) -> None:
        self.settings = settings
        self.trained = counts if trained is None else trained
        self.changing = changing
        until = settings.deferred_until
        # LDAM's authors start the weights at 160 of 200 epochs.
        if until is None:
            until = 0.8 if settings.loss == "ldam" else 0.0
        self.weights_from = until if settings.loss in {"ldam", "weighted_cross_entropy"} else float("inf")
        self.log_shares = (counts.double() / counts.sum()).log().float()
        self.weights = self._weights(counts)
        self.margins = ldam_margins(counts, settings.ldam_margin).to(counts.device)
        # VS-loss: multiplicative factors (n_k / n_max)^gamma.
        self.multipliers = (counts.float() / counts.max()).pow(settings.vs_gamma)
        self.gammas = torch.full((len(counts),), settings.gamma, device=counts.device)
        # The minority, the last class, is not down-weighted, however easy its rows have become.
        if settings.loss == "asymmetric_focal":
            self.gammas[-1] = 0.0

    def _weights(self, counts: Tensor) -> Tensor:
        chosen = self.settings.weights
        if chosen == "inverse":
            weights = inverse_frequency_weights(counts)
        elif chosen == "effective":
            weights = effective_number_weights(counts, self.settings.effective_beta)
        else:
            weights = explicit_weights(counts, tuple(chosen))
        return weights.to(counts.device)

    def __call__(
        self, logits: Tensor, labels: Tensor, progress: float = 1.0, row_weights: Tensor | None = None
    ) -> Tensor:
        """Mean loss over rows (for the F1 and AUC forms, one loss of all rows together).

        Args:
            logits: ``[N, K]``.
            labels: ``[N]`` int64.
            progress: share of the training that is done. Class weights may start late (deferred
                re-weighting, Cao et al. 2019); 1 is the final form.
            row_weights: ``[N]`` how often each row counts, equal within a class; None means once. The AUC
                forms use means within classes, which such weights do not change.
        """
        s = self.settings
        if s.loss == "soft_f1":
            return soft_f1(logits, labels, row_weights)
        if s.loss == "auc_margin":
            return auc_margin(logits, labels, s.auc_margin)
        if s.loss == "partial_auc":
            return partial_auc(logits, labels, s.auc_margin, s.temperature)
        rows = self._row_losses(logits, labels)
        if progress >= self.weights_from:
            rows = rows * self.weights[labels]
        if row_weights is None:
            return rows.mean()
        return (rows * row_weights).sum() / row_weights.sum()

    def _row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """``[N]`` losses before class weights."""
        s = self.settings
        if s.loss in {"focal", "asymmetric_focal"}:
            return focal(logits, labels, self.gammas)
        if s.loss == "ldam":
            logits = with_margins(logits, labels, self.margins)
        elif s.loss == "logit_adjustment":
            # Menon et al. 2021; tau = 1 is the balanced softmax of Ren et al. 2020.
            logits = logits + s.tau * self.log_shares
        elif s.loss == "vs":
            # Kini et al. 2021 (https://arxiv.org/abs/2103.01550).
            logits = logits * self.multipliers + s.tau * self.log_shares
        return cross_entropy(logits, labels, s.smoothing)

    def ledger(self) -> PriorLedger:
        """How sampling and objective changed the class shares that the probabilities refer to."""
        trained = self.trained.double().cpu() / self.trained.sum().item()
        shown = self.log_shares.double().exp().cpu()
        effective = shown
        plain = self.settings.smoothing == 0.0 and not self.changing
        exact = plain and self.settings.loss == "cross_entropy"
        if self.settings.loss == "weighted_cross_entropy":
            # A weight w_k on every row of a class acts like w_k times as many rows of it.
            effective = shown * self.weights.double().cpu()
            exact = plain and self.weights_from == 0.0
        elif self.settings.loss == "logit_adjustment":
            # The network learns log p(k | x) - tau log shown_k, so its own softmax refers to shown^(1 - tau).
            effective = shown.pow(1.0 - self.settings.tau)
            exact = plain
        # A power or a product of shares no longer sums to 1.
        effective = effective / effective.sum()
        return PriorLedger(tuple(trained.tolist()), tuple(effective.tolist()), exact)
