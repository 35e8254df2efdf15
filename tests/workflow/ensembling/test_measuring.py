"""What the results table measures: decisions as deployed, probabilities at the test set's own shares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contracts.errors import DataError
from tests.conftest import Outcome, Run
from workflow.ensembling.measuring import at_own_shares, measure_repeats, prediction_of
from workflow.run import state
from workflow.settings.config import RunOptions


@pytest.fixture
def run(fitted: tuple[Run, Outcome]) -> state.Run:
    there, _ = fitted
    return state.Run.open(RunOptions(str(there.dataset), recipe=str(there.recipe), runs=there.runs))


def test_calibration_is_judged_at_the_shares_of_the_test_set(run: state.Run):
    """Figures of the map from scores to probabilities must not depend on the prior that a user states."""
    expected = run.fitted.predict(run.test.scores, 0.5)
    for prior in (0.01, 0.5, 0.9):
        stated = replace(run.fitted, deployment_prior=prior)
        prediction = prediction_of("ensemble", stated, run.test)
        np.testing.assert_array_equal(prediction.p[:, 1], expected)
        # Decisions are those of the file, at the stated prior.
        np.testing.assert_array_equal(prediction.decision, stated.decide(run.test.scores))


def test_the_document_holds_calibration_figures_at_own_shares(run: state.Run, fitted: tuple[Run, Outcome]):
    document = fitted[1].json
    assert document["prior"] == pytest.approx(12 / 57)
    row = next(row for row in document["rows"] if row["name"] == "ensemble")
    p = run.fitted.predict(run.test.scores, 0.5)
    assert row["brier"] == pytest.approx(np.mean((p - run.test.labels) ** 2))
    assert any(
        "(as in training), but the test set has 50.00%" in sentence for sentence in run.fitted.sentences
    )


def test_a_test_set_without_a_class_has_no_shares_to_shift_to(run: state.Run):
    majority = np.flatnonzero(run.test.labels == 0)
    few = replace(
        run.test,
        row_ids=run.test.row_ids[majority],
        labels=run.test.labels[majority],
        groups=run.test.groups[majority],
        scores=run.test.scores[majority],
        fold_of_row=run.test.fold_of_row[majority],
    )
    assert at_own_shares(run.fitted, few).shape == (len(majority), 2)
    with pytest.raises(DataError, match="has no rows"):
        measure_repeats(run, [({"cnn": run.fitted}, few)])
