"""What the one-class members are worth: the ensemble beside the one that is fitted without them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from contracts.errors import DataError
from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from ensemble.pipeline import fit_ensemble
from evaluation.metrics import METRICS
from workflow.ensembling.compared_run import ComparedRun
from workflow.ensembling.measuring import ENSEMBLE_ROW, fit_to_judge, measure_predictions, prediction_of

WITHOUT = "supervised members alone"


def worth_of_oneclass(run: ComparedRun, metric: str) -> dict[str, Any] | None:
    """Compare the ensemble with one of the supervised members alone, on the rows that figures stand on.

    Args:
        run: fitted.
        metric: the one that is told.

    Returns:
        ``{metric, members, ensemble, without, difference: [estimate, low, high], sentence}``, the difference
        paired, its 95 % interval by the table's own bootstrap; None where there is not a member of each
        kind, or the supervised members alone cannot be fitted.
    """
    kinds = {column.member: column.kind for column in run.oof.columns}
    oneclass = [name for name, kind in kinds.items() if kind == "oneclass"]
    if not oneclass or len(oneclass) == len(kinds):
        return None
    predictions: list[dict[str, Any]] = []
    try:
        for repeat, (fitted, judged) in enumerate(run.fitted_repeats):
            oof, _ = run.tables_of([repeat])
            without = fit_to_judge(run, _supervised(oof), partial(_fit, run))[WITHOUT]
            predictions.append(
                {
                    WITHOUT: prediction_of("baseline", without, _supervised(judged)),
                    ENSEMBLE_ROW: prediction_of("ensemble", fitted[ENSEMBLE_ROW], judged),
                }
            )
    # Without the one-class members too little may be left to fit; then there is nothing to compare.
    except DataError:
        return None
    rows = measure_predictions(run, predictions, run.judged, WITHOUT)
    of = {row["name"]: row for row in rows}
    worth = {
        "metric": metric,
        "members": oneclass,
        "ensemble": of[ENSEMBLE_ROW][metric],
        "without": of[WITHOUT][metric],
        "difference": list(of[ENSEMBLE_ROW]["minus_baseline"][metric]),
    }
    return {**worth, "sentence": _sentence(worth)}


def _fit(run: ComparedRun, oof: ScoreTable) -> dict[str, FittedEnsemble]:
    fitted = fit_ensemble(
        oof,
        deployment_prior=run.prior,
        threshold_rule=run.config.recipe.threshold,
        seed=run.config.seed,
    )
    return {WITHOUT: fitted}


def _sentence(worth: dict[str, Any]) -> str:
    """The same for people."""
    estimate, low, high = worth["difference"]
    shown = "shown to help" if low > 0 else "shown to harm" if high < 0 else "no difference shown"
    return (
        f"With the one-class members ({', '.join(worth['members'])}) the ensemble's "
        f"{METRICS[worth['metric']].title} is {worth['ensemble']:.3f}, without them "
        f"{worth['without']:.3f}: {estimate:+.3f} ({low:+.3f} to {high:+.3f}), {shown}."
    )


def _supervised(table: ScoreTable) -> ScoreTable:
    kept = np.array([column.kind != "oneclass" for column in table.columns])
    return replace(
        table,
        columns=tuple(column for column in table.columns if column.kind != "oneclass"),
        scores=table.scores[:, kept],
    )
