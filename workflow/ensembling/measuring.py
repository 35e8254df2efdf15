"""The rows of the results table: measured on the test set, or by nested cross-fitting where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from ensemble.nested import cross_fitted
from ensemble.pipeline import fit_all
from ensemble.stacking.training_scores import filled_scores
from evaluation.comparison import Predictions, compare
from evaluation.rows import class_probabilities
from workflow.run.state import Run
from workflow.settings.config import RunConfig
from workflow.settings.registry import BASELINE, entry_of

BASELINE_ROW = "calibrated_baseline"
ENSEMBLE_ROW = "ensemble"

Repeat = tuple[dict[str, FittedEnsemble], ScoreTable]
"""What was fitted on one repeat's out-of-fold scores, and the scores of the rows that it is judged on.

These are the test rows. Without a test set they are the training rows, and each ensemble is a
:class:`ensemble.nested.CrossFittedEnsemble`, which judges them in that order and no others.
"""


def fit_rows(run: Run, oof: ScoreTable) -> dict[str, FittedEnsemble]:
    """Every row of the results table, fitted on out-of-fold scores with the settings of a run."""
    return fit_all(
        oof,
        deployment_prior=run.prior,
        threshold_rule=run.config.recipe.threshold,
        triage_rule=run.config.recipe.triage,
        seed=run.config.seed,
        unseen=run.unseen,
    )


def fit_to_judge(
    run: Run, oof: ScoreTable, fit: Callable[[ScoreTable], dict[str, FittedEnsemble]]
) -> dict[str, FittedEnsemble]:
    """Fit on out-of-fold scores in the way that the run's figures stand on.

    With a test set that is one fit, which judges the test rows; without one it is cross-fitted, and judges
    the rows of ``oof`` themselves.
    """
    return fit(oof) if run.measured == "test_set" else cross_fitted(oof, fit)


def judged_repeats(run: Run) -> list[Repeat]:
    """Each repeat of a run, fitted, with the rows it is judged on.

    Raises:
        ModelError: members are missing, or the calibrated baseline collapsed.
        DataError: rows do not suffice for calibration or threshold.
    """
    repeats: list[Repeat] = []
    for repeat in range(run.data.n_repeats):
        # Each by itself: how much repeats differ is part of every interval.
        oof, test = run.tables_of([repeat])
        fitted = fit_to_judge(run, oof, partial(fit_rows, run))
        # Complete also where no member could score the only minority image.
        judged = test if run.measured == "test_set" else replace(oof, scores=filled_scores(oof))
        repeats.append((fitted, judged))
    return repeats


def measure_repeats(run: Run, repeats: Sequence[Repeat]) -> list[dict[str, Any]]:
    """The table's rows: baseline first, then members, simple fusions and the ensemble.

    Figures of several repeats are means over them; see :func:`evaluation.comparison.compare`.
    """
    predictions = [predictions_of(run.config, *repeat) for repeat in repeats]
    return measure_predictions(run, predictions, repeats[0][1], BASELINE_ROW)


def measure_predictions(
    run: Run, repeats: Sequence[Mapping[str, Predictions]], judged: ScoreTable, baseline: str
) -> list[dict[str, Any]]:
    """Rows of a table from what each of its models says of the judged rows, repeat by repeat."""
    return compare(
        judged.labels,
        judged.groups,
        repeats,
        baseline,
        judged.class_names,
        seed=run.config.seed,
        n_replicates=run.config.recipe.bootstrap,
        cross_validated=run.measured == "cross_validation",
    )


def models_of(config: RunConfig, fitted: dict[str, FittedEnsemble]) -> dict[str, tuple[str, FittedEnsemble]]:
    """Row of the table → its kind and what gets from scores to decisions; the baseline first."""
    types = {plan.name: plan.type for plan in config.members}
    # The baseline's member also appears under its own name: as a member it is compared with itself.
    models = {BASELINE_ROW: ("baseline", fitted[BASELINE])}
    for name, pipeline in fitted.items():
        if name in types:
            kind: str = entry_of(types[name]).kind
        else:
            kind = "ensemble" if name == ENSEMBLE_ROW else "simple_fusion"
        models[name] = (kind, pipeline)
    return models


def predictions_of(
    config: RunConfig, fitted: dict[str, FittedEnsemble], judged: ScoreTable
) -> dict[str, Predictions]:
    """What each row of the table says of the rows it is judged on."""
    return {
        name: prediction_of(kind, pipeline, judged)
        for name, (kind, pipeline) in models_of(config, fitted).items()
    }


def deployed_of(
    config: RunConfig, fitted: dict[str, FittedEnsemble], judged: ScoreTable
) -> dict[str, Predictions]:
    """The same with probabilities at the deployment prior, which the thresholds belong to."""
    return {
        name: Predictions(
            kind, class_probabilities(pipeline.predict(judged.scores)), pipeline.decide(judged.scores)
        )
        for name, (kind, pipeline) in models_of(config, fitted).items()
    }


def prediction_of(kind: str, fitted: FittedEnsemble, judged: ScoreTable) -> Predictions:
    """What one fitted row says of the rows it is judged on.

    Decisions are those that the file makes: with the threshold fixed out of fold, at the deployment prior.
    Probabilities are shifted to these rows' own class shares. Calibration figures then judge the map from
    scores to probabilities; at another prior they would mostly measure how far the two priors differ.
    """
    return Predictions(kind, at_own_shares(fitted, judged), fitted.decide(judged.scores))


def at_own_shares(fitted: FittedEnsemble, judged: ScoreTable) -> npt.NDArray[np.float64]:
    """``[N, K]`` probabilities of the judged rows, at the class shares of these rows."""
    shares = (np.bincount(judged.labels, minlength=fitted.n_classes) / len(judged.labels)).tolist()
    if min(shares) == 0.0:
        # No such prior exists; whoever measures says that a class has no rows.
        return class_probabilities(fitted.predict(judged.scores))
    return class_probabilities(fitted.predict(judged.scores, shares[-1] if fitted.n_classes == 2 else shares))
