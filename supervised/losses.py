"""Losses; weights, logit adjustments and reductions over rows are in :mod:`supervised.objective`."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """``[N]`` cross-entropy.

    Args:
        logits: ``[N, K]``.
        labels: ``[N]`` int64.
        smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016).
    """
    return nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """``[N]`` cross-entropy with a distribution over the classes: -sum_k t_k log softmax(z)_k.

    For distillation: a network learns another's probabilities (Hinton et al. 2015,
    https://arxiv.org/abs/1503.02531, equation 1), here at temperature 1, because our teachers are calibrated
    and another temperature would undo that.

    Args:
        logits: ``[N, K]``.
        targets: ``[N, K]``, rows summing to 1; a one-hot row gives plain cross-entropy.
    """
    return nn.functional.cross_entropy(logits, targets, reduction="none")


def focal(logits: Tensor, labels: Tensor, gamma_of_class: Tensor) -> Tensor:
    """``[N]`` focal loss (1 - p_t)^gamma times cross-entropy.

    One gamma for all classes is the focal loss (Lin et al. 2017, equation 4,
    https://arxiv.org/abs/1708.02002). Gamma 0 for the minority is the asymmetric form, which never
    down-weights a minority row (after Ridnik et al. 2021, https://arxiv.org/abs/2009.14119).

    Args:
        logits: ``[N, K]``.
        labels: ``[N]`` int64.
        gamma_of_class: ``[K]`` exponents, 0 or more; 0 is cross-entropy.
    """
    losses = cross_entropy(logits, labels)
    # expm1 keeps the digits of 1 - p_t near 0. The clamp is for 0 itself, where a power below 1 has an
    # infinite slope and the gradient would be NaN.
    p_other = (-torch.expm1(-losses)).clamp_min(torch.finfo(losses.dtype).tiny)
    return p_other.pow(gamma_of_class[labels]) * losses


def with_margins(logits: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """``[N, K]`` logits minus the true class's margin, by which that class must win (LDAM).

    Source: Cao et al. 2019. The paper multiplies cosine logits by a scale of 30. Ours are plain logits, whose
    scale is learned, so there is no such factor.

    Args:
        logits: ``[N, K]``.
        labels: ``[N]`` int64.
        margins: ``[K]``.
    """
    return logits - nn.functional.one_hot(labels, logits.shape[1]) * margins


def soft_f1(logits: Tensor, labels: Tensor, row_weights: Tensor | None = None) -> Tensor:
    """1 - macro F1 with probabilities in place of decisions; a scalar over all rows given.

    F1 = 2 TP / (2 TP + FP + FN), where TP is the sum of the class's probability over its own rows. For two
    classes it is the mean of both classes' F1, so that assigning all rows to one class is never good.

    Args:
        logits: ``[N, K]``.
        labels: ``[N]`` int64.
        row_weights: ``[N]`` how often each row counts; None means once.
    """
    p = torch.softmax(logits, dim=1)
    truth = nn.functional.one_hot(labels, logits.shape[1]).to(p.dtype)
    if row_weights is not None:
        p, truth = p * row_weights[:, None], truth * row_weights[:, None]
    # where, not p * truth: with row weights, truth holds weights and the product would count them twice.
    hits = torch.where(truth > 0, p, torch.zeros_like(p)).sum(dim=0)
    # 2 TP + FP + FN = (predicted mass) + (true mass). A class without rows in the batch has no F1 and is
    # skipped.
    f1 = 2.0 * hits / (p.sum(dim=0) + truth.sum(dim=0)).clamp_min(1e-12)
    present = truth.sum(dim=0) > 0
    return 1.0 - f1[present].mean()


def _pair_scores(logits: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Scores of each class's rows and of all other rows, one class against the rest; K = 2: the minority's.

    A score is the probability of the class. Classes without rows on both sides are skipped.
    """
    p = torch.softmax(logits, dim=1)
    classes = [logits.shape[1] - 1] if logits.shape[1] == 2 else range(logits.shape[1])
    sides = [(p[labels == k, k], p[labels != k, k]) for k in classes]
    return [(positive, negative) for positive, negative in sides if len(positive) and len(negative)]


def auc_margin(logits: Tensor, labels: Tensor, margin: float) -> Tensor:
    """AUC min-max-margin loss, with the inner maximum and the class means solved in closed form.

    It is the variance of the minority's scores + the variance of the others' + max(0, m - (difference of
    means))^2. Source: Yuan et al. 2021 (https://arxiv.org/abs/2012.03173), with a and b at their optimum, the
    class means, and alpha >= 0 solved for. It learns a ranking; its probabilities need calibration.

    Args:
        logits: ``[N, K]``.
        labels: ``[N]`` int64.
        margin: m, in probability.
    """
    losses = [
        positive.var(correction=0)
        + negative.var(correction=0)
        + (margin - positive.mean() + negative.mean()).clamp_min(0.0).square()
        for positive, negative in _pair_scores(logits, labels)
    ]
    # Without rows on both sides there is no pair; the product keeps a (zero) gradient for the optimiser.
    return torch.stack(losses).mean() if losses else logits.sum() * 0.0


def partial_auc(logits: Tensor, labels: Tensor, margin: float, temperature: float) -> Tensor:
    """One-way partial AUC: each minority row against the majority rows that rank nearest to it or above.

    It is the mean over minority rows i of lambda log mean_j exp(l_ij / lambda), with
    l_ij = max(0, m - (h_i - h_j))^2. A small lambda considers only the highest-ranked majority rows (low
    false-alarm rates), a large one all of them. Source: the soft estimator of Zhu et al. 2022
    (https://arxiv.org/abs/2203.00176).

    Args:
        logits: ``[N, K]``.
        labels: ``[N]`` int64.
        margin: m, in probability.
        temperature: lambda, above 0.
    """
    losses = []
    for positive, negative in _pair_scores(logits, labels):
        # All pairs at once, [n+, n-]: the minority side is short, so the matrix stays small.
        pairs = (margin - positive[:, None] + negative[None, :]).clamp_min(0.0).square()
        soft_worst = torch.logsumexp(pairs / temperature, dim=1) - torch.log(
            torch.tensor(float(len(negative)), device=logits.device)
        )
        losses.append(temperature * soft_worst.mean())
    return torch.stack(losses).mean() if losses else logits.sum() * 0.0
