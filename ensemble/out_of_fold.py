"""A fitted ensemble on its own out-of-fold rows: the figure that a repeat is chosen by, and probabilities."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import f1_score

from contracts.errors import UsageError, nearest_match
from contracts.scores import ScoreTable
from ensemble.calibration.fitting import fit_calibrator
from ensemble.fitted import FittedEnsemble, decide_class
from ensemble.logistic import Float64Array
from ensemble.nested import judges_itself
from ensemble.prior import probability, shift_logit
from ensemble.stacking.quality import quality
from ensemble.stacking.stacker import METHODS, cross_fit, single_method, valid_logits
from ensemble.stacking.training_scores import TrainingScores
from evaluation.metrics.g_mean_product import product_g_mean
from evaluation.rows import class_recalls

HIGHER_IS_BETTER = {
    "average_precision": True,
    "hter": False,
    "f1": True,
    "g_mean": True,
    "log_loss": False,
}
"""Figure → whether higher is better."""

_SINGLE = "single:"


def out_of_fold_figure(oof: ScoreTable, fitted: FittedEnsemble, name: str) -> float:
    """One figure of a fitted ensemble on the rows it was fitted on, from cross-fitted logits.

    It uses no test row, so a choice by it does not bias the test figures. Combination weights come from the
    other folds; calibrator and threshold, a few numbers, from all out-of-fold rows, for every candidate
    alike. For two classes the figures are the minority's. For K > 2, ``average_precision`` and ``f1`` are
    means over classes, ``hter`` is one minus the mean class recall, and ``g_mean`` has the product form.

    Args:
        oof: the complete out-of-fold table that ``fitted`` was fitted on.
        fitted: by :func:`ensemble.pipeline.fit_ensemble` or :func:`ensemble.pipeline.fit_single`.
        name: a key of :data:`HIGHER_IS_BETTER`.

    Raises:
        UsageError: no such figure.
    """
    if name not in HIGHER_IS_BETTER:
        raise UsageError(
            f"select_by: '{name}' does not exist.{nearest_match(name, HIGHER_IS_BETTER)} "
            f"Use one of: {', '.join(HIGHER_IS_BETTER)}."
        )
    training = TrainingScores.from_table(oof)
    if fitted.method.startswith(_SINGLE):
        method = single_method(training, fitted.method.removeprefix(_SINGLE))
    else:
        method = METHODS[fitted.method]
    calibrator, trained, deployment = fitted.calibration
    calibrated = calibrator(cross_fit(training, method))
    if name in {"log_loss", "average_precision"}:
        # These rows have the class shares of training, so their probabilities are those before the prior
        # shift.
        return float(getattr(quality(calibrated, training.labels), name))
    n_classes = training.n_classes
    p = probability(shift_logit(calibrated, trained, deployment))
    decision = decide_class(p, fitted.threshold)
    if name == "f1":
        average = "binary" if n_classes == 2 else "macro"
        return float(f1_score(training.labels, decision, average=average, zero_division=0))
    recalls = class_recalls(training.labels, decision, n_classes)
    return 1.0 - float(recalls.mean()) if name == "hter" else float(product_g_mean(recalls))


def out_of_fold_probabilities(oof: ScoreTable, method: str) -> Float64Array:
    """Probabilities of rows whose fold neither the stacker nor the calibrator was fitted on.

    :mod:`ensemble.pipeline` fits the calibrator on all rows. That is right for use, but a row's own label
    then influences its probability. Here each fold's rows get their probabilities from a method and a
    calibrator fitted on the other folds, so that a student may learn from them. The choice of the method was
    made on all rows.

    Args:
        oof: complete out-of-fold table.
        method: a fitted ensemble's :attr:`ensemble.fitted.FittedEnsemble.method`.

    Returns:
        ``[N, K]`` class probabilities at the rows' own class shares, minority last; also for K = 2.

    Raises:
        As :func:`ensemble.pipeline.fit_single`.
    """
    training = TrainingScores.from_table(oof)
    combine = METHODS.get(method) or single_method(training, method.removeprefix("single:"))
    p = np.empty((len(training.labels), training.n_classes))
    for fold in np.unique(training.folds):
        # The calibrator is fitted inside the loop as well: fitted once on all rows it would have seen the
        # labels that it is about to predict.
        held_out = training.folds == fold
        others = training.rows(~held_out)
        calibrator, _ = fit_calibrator(valid_logits(others, combine), others.labels)
        of_fold = probability(calibrator(combine(others).logits(training.scores[held_out])))
        # The student learns from class probabilities, so two classes are spelled out as two columns.
        p[held_out] = of_fold if of_fold.ndim == 2 else np.stack([1.0 - of_fold, of_fold], axis=1)
    return p


def judging_probabilities(oof: ScoreTable, method: str) -> Float64Array:
    """Probabilities to judge the rows' own labels by: out of fold on both levels, as far as there is enough.

    Where a class lies in one fold only, no calibrator can do without that fold. Then stacker and calibrator
    have seen the labels of all rows; the members' scores are out of fold all the same.

    Args:
        oof: complete out-of-fold table.
        method: as of :func:`out_of_fold_probabilities`.

    Returns:
        ``[N, K]`` class probabilities at the rows' own class shares, minority last; also for K = 2.
    """
    if not judges_itself(oof):
        return out_of_fold_probabilities(oof, method)
    training = TrainingScores.from_table(oof)
    combine = METHODS.get(method) or single_method(training, method.removeprefix(_SINGLE))
    logits = combine(training).logits(training.scores)
    calibrator, _ = fit_calibrator(logits, training.labels)
    p = probability(calibrator(logits))
    return p if p.ndim == 2 else np.stack([1.0 - p, p], axis=1)
