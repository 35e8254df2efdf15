"""A trained run with everything that follows from its receipts fitted once more, in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from ensemble.pipeline import fit_all
from workflow.config import RunConfig
from workflow.facts import deployment_prior
from workflow.prepare import PreparedData, load_prepared
from workflow.score_tables import collapsed_members, finished_results, score_tables
from workflow.units import Unit, UnitResult, units_of


@dataclass(frozen=True)
class FittedRun:
    """Members' scores and all that is fitted on them.

    Attributes:
        config: the run, with the members that take part.
        data: its rows.
        results: receipts of all units.
        left_out: member → why it is left out.
        oof: scores of the training rows, each by the fold that held it out.
        test: scores of the held-out rows.
        fitted: row of the results table → how it gets from scores to decisions.
    """

    config: RunConfig
    data: PreparedData
    results: dict[Unit, UnitResult]
    left_out: dict[str, str]
    oof: ScoreTable
    test: ScoreTable
    fitted: dict[str, FittedEnsemble]


def fit_finished(config: RunConfig) -> FittedRun:
    """Read the receipts of the configuration's members and fit every row of the results table.

    Raises:
        ModelError: nothing is trained, members are missing, or the null control collapsed.
        DataError: rows do not suffice for calibration or threshold.
    """
    data = load_prepared(config)
    results = finished_results(config, units_of(config, data, config.members))
    left_out = collapsed_members(results)
    oof, test = score_tables(data, results, left_out)
    fitted = fit_all(
        oof,
        deployment_prior=deployment_prior(config, data),
        threshold_rule=config.recipe.threshold,
        seed=config.seed,
    )
    return FittedRun(config, data, results, left_out, oof, test, fitted)
