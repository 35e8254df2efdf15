"""Figures of one problem: ensemble and what it is compared with, p_normal on normal images, the estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.few_labels.digests import digest_of_code, digest_of_tables
from benchmarks.few_labels.tables import Problem
from contracts.errors import OutnumberedError
from contracts.files import digest_of, read_json, write_json
from contracts.scores import ScoreTable
from ensemble.conformal import fused_score
from ensemble.fitted import FittedEnsemble
from ensemble.nested import cross_fitted
from ensemble.pipeline import fit_ensemble, fit_fusion, fit_single
from ensemble.stacking.training_scores import filled_scores
from ensemble.without_labels import fit_without_labels
from evaluation.comparison import Predictions, compare
from evaluation.rows import class_probabilities
from workflow.settings.registry import BASELINE

ALPHAS = (0.01, 0.02, 0.05, 0.1, 0.2)
ENSEMBLE, MEAN, SUPERVISED = "ensemble", "plain mean", "supervised baseline"
_REPLICATES = 1000
_SOURCES = ("ensemble", "evaluation", "benchmarks/label_curve")


def measure(
    problems: Sequence[Problem], cache: Path, on_problem: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """Figures of every problem; those of earlier calls are kept while code and tables stay.

    Args:
        problems: with any number of labels, 0 among them.
        cache: folder of figures.
        on_problem: called once per problem.

    Returns:
        A document for each problem, as :func:`measured` makes it, with ``key``.
    """
    code, documents = digest_of_code(*_SOURCES), []
    for problem in problems:
        path = cache / f"{problem.name}.json"
        key = digest_of([code, digest_of_tables((problem.oof, problem.test))])
        document = read_json(path) if path.exists() else {}
        if document.get("key") != key:
            document = {"key": key, **measured(problem)}
            write_json(path, document)
        documents.append(document)
        on_problem()
    return documents


def measured(problem: Problem) -> dict[str, Any]:
    """All figures of a problem.

    Returns:
        ``auroc`` and ``average_precision`` by way and, under ``anomaly``, by anomaly member; ``p_normal``
        with the share of the judged normal images at or below each alpha; ``estimate`` with the ensemble's
        cross-validated figures as (figure, low, high), from one label on; ``refused`` with what could not be
        fitted, and why.
    """
    oof, test = problem.oof, problem.test
    document: dict[str, Any] = {
        "data_set": problem.data_set,
        "draw": problem.draw,
        "n_labels": problem.n_labels,
        "auroc": {},
        "average_precision": {},
        "anomaly": {},
        "refused": {},
    }
    for column, scores in zip(test.columns, test.scores.T, strict=True):
        if column.kind == "oneclass":
            document["anomaly"][column.member] = ranking(test, scores)
    for name, fit in ways(problem.n_labels).items():
        try:
            fitted = fit(oof)
        except OutnumberedError as error:
            document["refused"][name] = str(error)
            continue
        figures = ranking(test, fused_score(fitted.combination.logits(test.scores)))
        document["auroc"][name] = figures["auroc"]
        document["average_precision"][name] = figures["average_precision"]
        if name == ENSEMBLE:
            document["p_normal"] = _validity(fitted, test)
            document["method"] = fitted.method
    if problem.n_labels and ENSEMBLE in document["auroc"]:
        try:
            document["estimate"] = _estimate(oof)
        except OutnumberedError as error:
            document["refused"]["cross-validated figure"] = str(error)
    return document


def ways(n_labels: int) -> Mapping[str, Callable[[ScoreTable], FittedEnsemble]]:
    """What is compared, each from an out-of-fold table.

    Without labels the ensemble is the plain mean, and nothing is supervised.
    """
    if n_labels == 0:
        return {ENSEMBLE: lambda oof: fit_without_labels(oof, regime="normal_only")}
    return {
        ENSEMBLE: fit_ensemble,
        MEAN: lambda oof: fit_fusion(oof, "plain_mean"),
        SUPERVISED: lambda oof: fit_single(oof, BASELINE),
    }


def ranking(test: ScoreTable, scores: Any) -> dict[str, float]:
    """``auroc`` and ``average_precision`` of scores ``[N]`` on the judged rows."""
    return {
        "auroc": float(roc_auc_score(test.labels, scores)),
        "average_precision": float(average_precision_score(test.labels, scores)),
    }


def _estimate(oof: ScoreTable) -> dict[str, Any]:
    """What a run without a test set says of its ensemble: cross-validated figures with their intervals."""

    def fit(table: ScoreTable) -> dict[str, FittedEnsemble]:
        return {ENSEMBLE: fit_ensemble(table)}

    judge = cross_fitted(oof, fit)[ENSEMBLE]
    scores = filled_scores(oof)
    p = class_probabilities(judge.predict(scores))
    predictions = {ENSEMBLE: Predictions("ensemble", p, judge.decide(scores))}
    [row] = compare(
        oof.labels,
        oof.groups,
        [predictions],
        ENSEMBLE,
        oof.class_names,
        n_replicates=_REPLICATES,
        cross_validated=True,
    )
    return {figure: [row[figure], *row["intervals"][figure]] for figure in ("auroc", "average_precision")}


def _validity(fitted: FittedEnsemble, test: ScoreTable) -> dict[str, Any]:
    """How many of the judged normal images p_normal calls odd; each group counts as one."""
    is_normal = test.labels == 0
    p = fitted.p_normal(test.scores[is_normal])
    _, group = np.unique(test.groups[is_normal], return_inverse=True)
    size = np.bincount(group)
    shares = {}
    for alpha in ALPHAS:
        within = np.bincount(group, weights=p <= alpha) / size
        shares[f"{alpha:g}"] = float(within.mean())
    return {"groups": len(size), "least": float(fitted.normal.least), "share": shares}
