"""Recall by kind, and figures on kinds never seen, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.comparison import Predictions, clopper_pearson
from evaluation.kinds import FIGURES, figures_never_seen, recall_by_kind
from evaluation.ranking import ranking_figures
from tests.evaluation.made_up import COUNTS_OF, made_up


def test_recalls_are_means_over_repeats_with_groups_counted_once():
    kinds = np.array(["", "hole", "hole", "hole", "hole", "crack"])
    groups = np.array([0, 1, 1, 2, 2, 3])
    decisions = [np.array([1, 1, 1, 1, 0, 1]), np.array([0, 1, 1, 0, 0, 1])]
    found = recall_by_kind(kinds, groups, decisions, minority=1)
    assert list(found) == ["crack", "hole"]
    assert found["crack"] == [1.0, *clopper_pearson(1, 1)]
    assert found["hole"] == pytest.approx([5 / 8, *clopper_pearson(2 * 5 / 8, 2)])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_figures_ask_for_the_minority_against_the_rest(n_classes):
    rows = made_up(COUNTS_OF[n_classes])
    better = 0.4 * rows.p + 0.6 * np.eye(n_classes)[rows.labels]
    said = {
        "base": Predictions("baseline", rows.p, rows.decision),
        "other": Predictions("ensemble", better, better.argmax(axis=1)),
    }
    names = [*"abc"[: n_classes - 1], "odd"]
    found = figures_never_seen(
        rows.labels, np.arange(len(rows.labels)), said, "base", names, seed=0, n_replicates=100
    )
    is_odd = rows.labels == n_classes - 1
    for name, predictions in said.items():
        expected = ranking_figures(is_odd, predictions.p[:, -1])
        expected["recall"] = float((predictions.decision[is_odd] == n_classes - 1).mean())
        for figure in FIGURES:
            value, low, high = found[name][figure]
            assert value == pytest.approx(expected[figure])
            assert low <= value <= high
    change = found["other"]["minus_baseline"]
    assert change["auroc"][0] == pytest.approx(found["other"]["auroc"][0] - found["base"]["auroc"][0])
    assert change["auroc"][1] > 0
