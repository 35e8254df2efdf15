"""The rows of the results table, measured on the test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from evaluation.comparison import Predictions, compare
from evaluation.rows import class_probabilities
from workflow.settings.config import RunConfig
from workflow.settings.registry import BASELINE, entry_of

BASELINE_ROW = "calibrated_baseline"
ENSEMBLE_ROW = "ensemble"

Repeat = tuple[dict[str, FittedEnsemble], ScoreTable]
"""What was fitted on one repeat's out-of-fold scores, and that repeat's test scores."""


def measure(config: RunConfig, fitted: dict[str, FittedEnsemble], test: ScoreTable) -> list[dict[str, Any]]:
    """The table's rows: baseline first, then members, simple fusions and the ensemble."""
    return measure_repeats(config, [(fitted, test)])


def measure_repeats(config: RunConfig, repeats: Sequence[Repeat]) -> list[dict[str, Any]]:
    """The same over several repeats; see :func:`evaluation.comparison.compare`."""
    predictions = [predictions_of(config, *repeat) for repeat in repeats]
    return measure_predictions(config, predictions, repeats[0][1], BASELINE_ROW)


def measure_predictions(
    config: RunConfig, repeats: Sequence[Mapping[str, Predictions]], test: ScoreTable, baseline: str
) -> list[dict[str, Any]]:
    """Rows of a table from what each of its models says of the test rows, repeat by repeat."""
    return compare(
        test.labels,
        test.groups,
        repeats,
        baseline,
        test.class_names,
        seed=config.seed,
        n_replicates=config.recipe.bootstrap,
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
    config: RunConfig, fitted: dict[str, FittedEnsemble], test: ScoreTable
) -> dict[str, Predictions]:
    """What each row of the table says of the test rows."""
    return {
        name: prediction_of(kind, pipeline, test)
        for name, (kind, pipeline) in models_of(config, fitted).items()
    }


def deployed_of(
    config: RunConfig, fitted: dict[str, FittedEnsemble], test: ScoreTable
) -> dict[str, Predictions]:
    """The same with probabilities at the deployment prior, which the thresholds belong to."""
    return {
        name: Predictions(
            kind, class_probabilities(pipeline.predict(test.scores)), pipeline.decide(test.scores)
        )
        for name, (kind, pipeline) in models_of(config, fitted).items()
    }


def prediction_of(kind: str, fitted: FittedEnsemble, test: ScoreTable) -> Predictions:
    """What one fitted row says of the test rows.

    Decisions are those that the file makes: with the threshold fixed out of fold, at the deployment prior.
    Probabilities are shifted to the test set's own class shares. Calibration figures then judge the map from
    scores to probabilities; at another prior they would mostly measure how far the two priors differ.
    """
    return Predictions(kind, at_own_shares(fitted, test), fitted.decide(test.scores))


def at_own_shares(fitted: FittedEnsemble, test: ScoreTable) -> npt.NDArray[np.float64]:
    """``[N, K]`` probabilities of the test rows, at the class shares of these rows."""
    shares = (np.bincount(test.labels, minlength=fitted.n_classes) / len(test.labels)).tolist()
    if min(shares) == 0.0:
        # No such prior exists; whoever measures says that a class has no rows.
        return class_probabilities(fitted.predict(test.scores))
    return class_probabilities(fitted.predict(test.scores, shares[-1] if fitted.n_classes == 2 else shares))
