"""The two figures by which candidates are compared: log loss and average precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from sklearn.metrics import average_precision_score

from contracts.rows import LabelArray
from ensemble.logistic import Float64Array
from ensemble.softmax import one_hot


@dataclass(frozen=True)
class Quality:
    """Log loss in nats per row (lower is better) and average precision (higher is better)."""

    log_loss: float
    average_precision: float

    def __str__(self) -> str:
        """Both figures, for people."""
        return f"log loss {self.log_loss:.4f}, average precision {self.average_precision:.4f}"


def row_losses(logits: Float64Array, labels: LabelArray) -> Float64Array:
    """``[N]`` negative log-likelihood of each row, from ``[N]`` log-odds or ``[N, K]`` logits; finite."""
    if logits.ndim == 1:
        return np.logaddexp(0.0, logits) - labels * logits
    # -log softmax of the true class, without ever forming a probability that could round to 0.
    return np.asarray(logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels])


def log_loss(logits: Float64Array, labels: LabelArray) -> float:
    """Mean of :func:`row_losses`."""
    return float(np.mean(row_losses(logits, labels)))


def quality(logits: Float64Array, labels: LabelArray) -> Quality:
    """Both figures; average precision of K classes is the mean over classes, one against the rest."""
    if logits.ndim == 1:
        precision = average_precision_score(labels, logits)
    else:
        # Ranks one class across rows, so the logits must first be made comparable between rows; log p orders
        # like p and does not saturate.
        log_p = logits - logsumexp(logits, axis=1, keepdims=True)
        precision = average_precision_score(one_hot(labels, logits.shape[1]), log_p, average="macro")
    return Quality(log_loss(logits, labels), float(precision))
