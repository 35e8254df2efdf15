"""The stack and the simple fusions, each fitted on out-of-fold rows and predicted across folds.

Simple fusions: the best single member, the plain mean, and greedy selection with replacement (Caruana et
al. 2004). A method is a function from training rows to a :class:`LinearCombination`; it makes all of
its choices (scales, weights, selection) from those rows alone. :func:`cross_fit` therefore
leaks nothing: a fold's logits come from a method that never saw the fold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from contracts.errors import UsageError, nearest_match
from ensemble.logistic import Float64Array
from ensemble.stacking.combination import LinearCombination
from ensemble.stacking.quality import log_loss
from ensemble.stacking.training_scores import TrainingScores
from ensemble.stacking.weights import fit_guarded, fit_mean, fit_single, fit_stack

Method = Callable[[TrainingScores], LinearCombination]

GREEDY_STEPS = 20


def cross_fit(training: TrainingScores, method: Method) -> Float64Array:
    """Predict each fold by ``method`` fitted on the other folds.

    Returns:
        ``[N]`` or ``[N, K]`` logits of the training rows, none of them fitted on its own fold.
    """
    logits: Float64Array | None = None
    for fold, others in training.without_fold.items():
        held_out = training.folds == fold
        # The method chooses its scales, weights and members inside this call, from the other folds only.
        of_fold = method(others).logits(training.scores[held_out])
        if logits is None:
            logits = np.empty((len(training.labels), *of_fold.shape[1:]))
        logits[held_out] = of_fold
    assert logits is not None  # from_table refuses a table without rows
    return logits


def valid_logits(training: TrainingScores, method: Method) -> Float64Array:
    """Cross-fitted logits, or in-sample logits if all rows lie in one fold.

    The latter happens only inside :func:`cross_fit` with two folds. It is used only to choose among members,
    each with one slope and one intercept, which can hardly overfit.
    """
    if len(training.without_fold) > 1:
        return cross_fit(training, method)
    return method(training).logits(training.scores)


def best_member(training: TrainingScores) -> str:
    """The member whose own logistic regression has the lowest cross-fitted log loss; the first wins ties."""
    losses = [
        log_loss(valid_logits(training, partial(fit_single, member=block.member)), training.labels)
        for block in training.blocks
    ]
    return training.blocks[int(np.argmin(losses))].member


def best_single(training: TrainingScores) -> LinearCombination:
    """The best member's own logistic regression; the best member is chosen on the same rows."""
    return fit_single(training, best_member(training))


def greedy_selection(training: TrainingScores) -> LinearCombination:
    """Mean of members' calibrated log-odds, selected greedily with replacement (Caruana et al. 2004).

    Each of 20 steps adds the member, possibly again, that reduces the log loss of the running mean most. The
    best prefix is used. The selection uses cross-fitted log-odds.
    """
    singles = [partial(fit_single, member=block.member) for block in training.blocks]
    # Selection looks at cross-fitted logits: by in-sample ones the most overfitted member would win.
    candidates = np.stack([valid_logits(training, single) for single in singles])
    counts = np.zeros(len(singles), dtype=np.int64)
    running = np.zeros_like(candidates[0])
    best_counts, best_loss = counts.copy(), np.inf
    for step in range(1, GREEDY_STEPS + 1):
        losses = [log_loss((running + candidate) / step, training.labels) for candidate in candidates]
        chosen = int(np.argmin(losses))
        counts[chosen] += 1
        running = running + candidates[chosen]
        # The margin keeps rounding errors from preferring twenty copies of a member to one.
        if losses[chosen] < best_loss - 1e-12:
            best_counts, best_loss = counts.copy(), losses[chosen]
    # A mean of logistic regressions is linear in the standardised scores, so it collapses into one set of
    # weights.
    share = best_counts / best_counts.sum()
    fitted = [single(training) for single in singles]
    weights = sum(s * f.weights for s, f in zip(share, fitted, strict=True))
    intercept = sum(s * f.intercept for s, f in zip(share, fitted, strict=True))
    return LinearCombination(fitted[0].transform, np.asarray(weights), np.asarray(intercept))


METHODS: dict[str, Method] = {
    "stack": fit_stack,
    "guarded_stack": fit_guarded,
    "best_single": best_single,
    "plain_mean": fit_mean,
    "greedy": greedy_selection,
}


def single_method(training: TrainingScores, member: str) -> Method:
    """The method that uses one named member.

    Raises:
        UsageError: no such member in the table.
    """
    names = [block.member for block in training.blocks]
    if member not in names:
        raise UsageError(
            f"ensemble: no member '{member}' among {', '.join(names)}.{nearest_match(member, names)} "
            "Train it first or name another."
        )
    return partial(fit_single, member=member)
