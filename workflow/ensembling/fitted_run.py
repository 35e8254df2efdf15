"""A trained run with everything that follows from its cached results fitted once more, in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from ensemble.pipeline import fit_all
from workflow.ensembling.measuring import Repeat
from workflow.run.added_scores import with_added_rows
from workflow.run.fits import Fit, FitResult, fits_of
from workflow.run.prepared import PreparedData, load_prepared
from workflow.run.score_tables import collapsed_members, finished_results, score_tables
from workflow.run.summary import deployment_prior
from workflow.settings.config import RunConfig


@dataclass(frozen=True)
class FittedRun:
    """Members' scores and all that is fitted on them.

    Attributes:
        config: the run, with the members that take part.
        data: its rows.
        results: cached results of all fits.
        left_out: member → why it is left out.
        oof: scores of the training rows, each by the fold that held it out; of the first repeat.
        repeats: each repeat's fitted rows of the results table beside its scores of the test rows.
    """

    config: RunConfig
    data: PreparedData
    results: dict[Fit, FitResult]
    left_out: dict[str, str]
    oof: ScoreTable
    repeats: list[Repeat]

    @property
    def fitted(self) -> dict[str, FittedEnsemble]:
        """Row of the results table → how it gets from scores to decisions; of the first repeat."""
        return self.repeats[0][0]

    @property
    def test(self) -> ScoreTable:
        """Scores of the test rows; of the first repeat."""
        return self.repeats[0][1]


def fit_finished(config: RunConfig) -> FittedRun:
    """Read the cached results of the configuration's members and fit every row of the results table.

    Raises:
        ModelError: nothing is trained, members are missing, or the calibrated baseline collapsed.
        DataError: rows do not suffice for calibration or threshold.
    """
    data = load_prepared(config)
    results = finished_results(config, fits_of(config, data, config.members))
    left_out = collapsed_members(results)
    results = with_added_rows(config, data, results)
    tables = [score_tables(data, results, left_out, [repeat]) for repeat in range(config.recipe.repeats)]
    repeats = [
        (
            fit_all(
                oof,
                deployment_prior=deployment_prior(config, data),
                threshold_rule=config.recipe.threshold,
                seed=config.seed,
            ),
            test,
        )
        for oof, test in tables
    ]
    return FittedRun(config, data, results, left_out, tables[0][0], repeats)
