"""Each member's contribution to the stack: its weight, and what the stack loses without it.

Everything is measured on the out-of-fold rows by cross-fitting, like the gate, so no figure here uses a test
row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from contracts.scores import ScoreTable
from ensemble.logistic import Float64Array
from ensemble.stacking.quality import Quality, quality, row_losses
from ensemble.stacking.stacker import METHODS, cross_fit
from ensemble.stacking.training_scores import TrainingScores, blocks_of
from evaluation.bootstrap import central_interval, replicate_weights


@dataclass(frozen=True)
class Contribution:
    """One member's contribution to the stack.

    Attributes:
        member: its name.
        weight: of its standardised score in the stack, 0 or more; the largest of its weights for K > 2.
        without: quality of the stack refitted without the member; None if it is the only one.
        log_loss_change: (estimate, low, high) of log loss without minus log loss with the member, in nats per
            row, with a 95 % bootstrap interval over groups; above 0 if the member helps. None as above.
        average_precision_change: average precision without minus with the member; below 0 if it helps.
    """

    member: str
    weight: float
    without: Quality | None
    log_loss_change: tuple[float, float, float] | None
    average_precision_change: float | None


def contributions(oof: ScoreTable, *, seed: int, n_replicates: int) -> tuple[Quality, list[Contribution]]:
    """Refit the ungated stack without each member in turn.

    Args:
        oof: complete out-of-fold table.
        seed: of the bootstrap.
        n_replicates: of the bootstrap.

    Returns:
        Quality of the whole stack, and one contribution per member in column order.

    Raises:
        ModelError, DataError: no ensemble can be fitted on the table.
    """
    training = TrainingScores.from_table(oof)
    stack = METHODS["stack"]
    weights = stack(training).weights
    logits = cross_fit(training, stack)
    whole, losses = quality(logits, training.labels), row_losses(logits, training.labels)
    differences: dict[str, Float64Array] = {}
    qualities: dict[str, Quality] = {}
    # A single member leaves nothing to refit without it.
    if len(training.blocks) > 1:
        for block in training.blocks:
            # Refitted, not zeroed: the remaining members may take over what the dropped one knew, and only
            # what they cannot replace is its contribution.
            left = cross_fit(_without(training, block.member), stack)
            qualities[block.member] = quality(left, training.labels)
            differences[block.member] = row_losses(left, training.labels) - losses
    # Groups, not rows, are resampled: images of one patient are not independent evidence.
    intervals = _intervals(training, differences, seed, n_replicates)
    found = []
    for block in training.blocks:
        without = qualities.get(block.member)
        found.append(
            Contribution(
                member=block.member,
                weight=float(np.abs(weights[list(block.columns)]).max()),
                without=without,
                log_loss_change=intervals.get(block.member),
                average_precision_change=None
                if without is None
                else without.average_precision - whole.average_precision,
            )
        )
    return whole, found


def _without(training: TrainingScores, member: str) -> TrainingScores:
    """The same rows without one member's columns."""
    kept = [i for i, column in enumerate(training.columns) if column.member != member]
    columns = tuple(training.columns[i] for i in kept)
    return replace(
        training,
        columns=columns,
        blocks=blocks_of(columns, training.n_classes),
        scores=training.scores[:, kept],
    )


def _intervals(
    training: TrainingScores, differences: dict[str, Float64Array], seed: int, n_replicates: int
) -> dict[str, tuple[float, float, float]]:
    """Member → mean difference with the central 95 % of its bootstrap replicates."""
    if not differences:
        return {}
    # Differences row by row, so that all members share the replicates and each interval is paired.
    by_row = np.stack(list(differences.values()), axis=1)
    blocks = replicate_weights(training.labels, training.groups, n_replicates=n_replicates, seed=seed)
    means = np.concatenate([weights @ by_row / weights.sum(axis=1, keepdims=True) for weights in blocks])
    low, high = central_interval(means)
    return {
        name: (float(by_row[:, i].mean()), float(low[i]), float(high[i]))
        for i, name in enumerate(differences)
    }
