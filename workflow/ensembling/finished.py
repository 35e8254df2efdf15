"""A run whose ensemble is fitted, as the commands behind ``ensemble`` read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.errors import ModelError
from contracts.files import read_json
from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from workflow.ensembling.repeats import fits_to_select_from
from workflow.run.added_scores import with_added_rows
from workflow.run.fits import Fit, FitResult, fits_of
from workflow.run.prepared import PreparedData, load_prepared
from workflow.run.score_tables import collapsed_members, finished_results, score_tables
from workflow.run.state import ensemble_key
from workflow.settings.config import RunConfig


@dataclass(frozen=True)
class FinishedRun:
    """What ``ensemble`` left.

    Attributes:
        config: the run.
        data: its rows.
        results: cached results of the fits that the ensemble depends on, as the last update leaves them.
        fitted: the ensemble.
        oof: out-of-fold scores that it was fitted on.
        test: scores of the test rows.
        repeats: whose members it is made of.
        document: that of ``ensemble --json``.
    """

    config: RunConfig
    data: PreparedData
    results: dict[Fit, FitResult]
    fitted: FittedEnsemble
    oof: ScoreTable
    test: ScoreTable
    repeats: tuple[int, ...]
    document: dict[str, Any]


def read_finished(config: RunConfig) -> FinishedRun:
    """Read a run with its ensemble.

    Raises:
        ModelError: nothing trained, no ensemble yet, or one of other members or settings; says which
            command to run.
    """
    data = load_prepared(config)
    fits = fits_to_select_from(config.recipe, fits_of(config, data, config.members))
    results = finished_results(config, fits)
    left_out = collapsed_members(results)
    metrics_path = config.folder / "metrics.json"
    command = config.options.command("ensemble")
    if not metrics_path.exists():
        raise ModelError(f"{config.folder}: no ensemble fitted yet. First run: {command}")
    metrics = read_json(metrics_path)
    if metrics["key"] != ensemble_key(config, fits):
        raise ModelError(
            f"{config.folder}: its ensemble was fitted on other members or with other settings. "
            f"Run: {command}"
        )
    results = with_added_rows(config, data, results)
    fitted = FittedEnsemble.from_json(read_json(config.folder / "ensemble.json"))
    document = metrics["document"]
    repeats = tuple(document.get("selection", {}).get("repeats", [0]))
    oof, test = score_tables(data, results, left_out, repeats)
    return FinishedRun(config, data, results, fitted, oof, test, repeats, document)
