"""The gate: the stack is the ensemble unless a single member is shown to be better out of fold.

A stack drawn towards equal weights seldom loses to its best member, and which member is best is itself known
only roughly. A point estimate would therefore throw fusion away by chance, most often where labels are few.
A member takes its place only on evidence: a paired interval of the difference that excludes 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble.logistic import Float64Array
from ensemble.stacking.quality import Quality, quality, row_losses
from ensemble.stacking.training_scores import TrainingScores
from evaluation.bootstrap import central_interval, replicate_weights

N_REPLICATES = 1000

LEAST_GROUPS = 10
"""Independent images of every class below which no interval counts as evidence."""


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided, and on which figures.

    Attributes:
        keep_stack: False means that the best single member is the ensemble.
        best_member: its name.
        stack: the stack's cross-fitted quality.
        single: the best member's cross-fitted quality.
        sentence: the decision with its figures, for people.
    """

    keep_stack: bool
    best_member: str
    stack: Quality
    single: Quality
    sentence: str


def decide_gate(
    training: TrainingScores,
    stack_logits: Float64Array,
    single_logits: Float64Array,
    best_member: str,
    *,
    seed: int,
) -> GateDecision:
    """Keep the stack unless the member's log loss is shown to be lower and its precision is no worse.

    Args:
        training: labels and groups of the rows.
        stack_logits: ``[N]`` or ``[N, K]`` cross-fitted logits of the stack.
        single_logits: the same of the best single member's own logistic.
        best_member: its name.
        seed: of the bootstrap.
    """
    stack, single = quality(stack_logits, training.labels), quality(single_logits, training.labels)
    figures = f"stack: {stack}; '{best_member}': {single}"
    fewest = min(len(np.unique(training.groups[training.labels == k])) for k in range(training.n_classes))
    if fewest < LEAST_GROUPS:
        return GateDecision(
            True,
            best_member,
            stack,
            single,
            f"The stack is the ensemble: the rarest class has fewer than {LEAST_GROUPS} independent images "
            f"({fewest}), so no member can be shown to be better (out of fold, {figures}).",
        )
    excess = row_losses(stack_logits, training.labels) - row_losses(single_logits, training.labels)
    low, high = _interval(excess, training, seed)
    interval = f"95 % interval {low:+.4f} to {high:+.4f}"
    if low > 0.0 and single.average_precision >= stack.average_precision:
        return GateDecision(
            False,
            best_member,
            stack,
            single,
            f"'{best_member}' alone is the ensemble: out of fold it is shown to be better than the stack "
            f"(excess log loss of the stack: {interval}; {figures}).",
        )
    return GateDecision(
        True,
        best_member,
        stack,
        single,
        f"The stack is the ensemble: out of fold the best single member, '{best_member}', is not shown to be "
        f"better (excess log loss of the stack: {interval}; {figures}).",
    )


def _interval(values: Float64Array, training: TrainingScores, seed: int) -> tuple[float, float]:
    """Central 95 % of the mean of ``[N]`` values over bootstrap replicates; groups are drawn whole."""
    blocks = replicate_weights(training.labels, training.groups, n_replicates=N_REPLICATES, seed=seed)
    means = np.concatenate([weights @ values / weights.sum(axis=1) for weights in blocks])
    low, high = central_interval(means)
    return float(low), float(high)
