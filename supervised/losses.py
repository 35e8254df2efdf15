"""Losses of single rows; weights, adjustments and reductions are the objective's business."""

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

    What a network learns from another's probabilities (Hinton et al. 2015, https://arxiv.org/abs/1503.02531,
    equation 1), here at temperature 1: our teachers are calibrated, and softening them would undo it.

    Args:
        logits: ``[N, K]``.
        targets: ``[N, K]``, rows summing to 1; a one-hot row gives plain cross-entropy.
    """
    return nn.functional.cross_entropy(logits, targets, reduction="none")


def focal(logits: Tensor, labels: Tensor, gamma_of_class: Tensor) -> Tensor:
    """``[N]`` focal loss (1 - p_t)^gamma times cross-entropy.

    One gamma for all classes is the focal loss (Lin et al. 2017, equation 4,
    https://arxiv.org/abs/1708.02002); gamma 0 for the minority alone is the asymmetric form, in which
    no minority row is ever quieted (after Ridnik et al. 2021, https://arxiv.org/abs/2009.14119).

    Args:
        logits: ``[N, K]``.
        labels: ``[N]`` int64.
        gamma_of_class: ``[K]`` exponents, 0 or more; 0 is cross-entropy.
    """
    losses = cross_entropy(logits, labels)
    # 1 - p_t by expm1 keeps its digits near 0; at 0 itself a power below 1 has no finite slope.
    p_other = (-torch.expm1(-losses)).clamp_min(torch.finfo(losses.dtype).tiny)
    return p_other.pow(gamma_of_class[labels]) * losses


def with_margins(logits: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """``[N, K]`` logits with the true class's margin taken off: it must win by that much (LDAM).

    Source: Cao et al. 2019. The paper multiplies cosine logits by a scale of 30; ours are
    plain logits, whose scale is learned, so there is none.

    Args:
        logits: ``[N, K]``.
        labels: ``[N]`` int64.
        margins: ``[K]``.
    """
    return logits - nn.functional.one_hot(labels, logits.shape[1]) * margins


def soft_f1(logits: Tensor, labels: Tensor, row_weights: Tensor | None = None) -> Tensor:
    """1 - macro F1 with probabilities in place of decisions; a scalar over all rows given.

    F1 = 2 TP / (2 TP + FP + FN), with TP the summed probability of the class over its own rows; for two
    classes the mean of both sides' F1, so that calling everything one class is never a good answer.

    Args:
        logits: ``[N, K]``.
        labels: ``[N]`` int64.
        row_weights: ``[N]`` how often each row counts; None is once.
    """
    p = torch.softmax(logits, dim=1)
    truth = nn.functional.one_hot(labels, logits.shape[1]).to(p.dtype)
    if row_weights is not None:
        p, truth = p * row_weights[:, None], truth * row_weights[:, None]
    hits = torch.where(truth > 0, p, torch.zeros_like(p)).sum(dim=0)
    f1 = 2.0 * hits / (p.sum(dim=0) + truth.sum(dim=0)).clamp_min(1e-12)
    present = truth.sum(dim=0) > 0
    return 1.0 - f1[present].mean()


def _pair_scores(logits: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Scores of each class's rows and of the others', one class against the rest; the minority for K = 2.

    A score is the probability of the class. Classes without rows on both sides are left out.
    """
    p = torch.softmax(logits, dim=1)
    classes = [logits.shape[1] - 1] if logits.shape[1] == 2 else range(logits.shape[1])
    sides = [(p[labels == k, k], p[labels != k, k]) for k in classes]
    return [(positive, negative) for positive, negative in sides if len(positive) and len(negative)]


def auc_margin(logits: Tensor, labels: Tensor, margin: float) -> Tensor:
    """AUC min-max-margin loss, with the inner maximum and the class means solved in closed form.

    Variance of the minority's scores + variance of the others' + max(0, m - (mean difference))^2.
    Source: Yuan et al. 2021 (https://arxiv.org/abs/2012.03173): a and b are the class means
    at their optimum, and alpha >= 0 is solved for. It ranks; its probabilities mean nothing before
    calibration.

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
    return torch.stack(losses).mean() if losses else logits.sum() * 0.0


def partial_auc(logits: Tensor, labels: Tensor, margin: float, temperature: float) -> Tensor:
    """One-way partial AUC: each minority row against the majority rows that come nearest to it.

    Mean over minority rows i of lambda log mean_j exp(l_ij / lambda), l_ij = max(0, m - (h_i - h_j))^2.
    A small lambda looks at the highest-ranked majority rows only (low false-alarm rates), a large one at
    all of them. Source: Zhu et al. 2022, the soft estimator (https://arxiv.org/abs/2203.00176).

    Args:
        logits: ``[N, K]``.
        labels: ``[N]`` int64.
        margin: m, in probability.
        temperature: lambda, above 0.
    """
    losses = []
    for positive, negative in _pair_scores(logits, labels):
        pairs = (margin - positive[:, None] + negative[None, :]).clamp_min(0.0).square()
        soft_worst = torch.logsumexp(pairs / temperature, dim=1) - torch.log(
            torch.tensor(float(len(negative)), device=logits.device)
        )
        losses.append(temperature * soft_worst.mean())
    return torch.stack(losses).mean() if losses else logits.sum() * 0.0
