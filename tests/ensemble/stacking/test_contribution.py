"""What the stack loses without a member, against refitting a table that never had it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contracts.scores import ScoreTable
from ensemble.stacking.contribution import contributions
from ensemble.stacking.quality import quality
from ensemble.stacking.stacker import METHODS, cross_fit
from ensemble.stacking.training_scores import TrainingScores


def table_without(table: ScoreTable, member: str) -> ScoreTable:
    kept = [i for i, column in enumerate(table.columns) if column.member != member]
    return replace(table, columns=tuple(table.columns[i] for i in kept), scores=table.scores[:, kept].copy())


def slow_quality(table: ScoreTable):
    training = TrainingScores.from_table(table)
    return quality(cross_fit(training, METHODS["stack"]), training.labels)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_without_is_a_stack_that_never_had_the_member(n_classes, make_table, make_table_3):
    if n_classes == 2:
        table = make_table(n_neg=90, n_pos=20, n_folds=3)
    else:
        table = make_table_3((40, 30, 20), n_folds=3, strengths=(2.0,))
    whole, found = contributions(table, seed=0, n_replicates=100)
    expected = slow_quality(table)
    assert whole == expected
    assert [each.member for each in found] == list(table.member_names)
    for each in found:
        without = slow_quality(table_without(table, each.member))
        assert each.without == without
        estimate, low, high = each.log_loss_change
        assert estimate == pytest.approx(without.log_loss - expected.log_loss)
        assert low <= estimate <= high
        assert each.average_precision_change == without.average_precision - expected.average_precision


def test_the_member_that_knows_earns_its_place_and_the_one_that_does_not_earns_nothing(make_table):
    table = make_table(strengths=(2.0,), anomaly_strengths=(0.0,))
    _, (knows, knows_nothing) = contributions(table, seed=0, n_replicates=200)
    assert knows.log_loss_change[1] > 0.0
    assert knows.average_precision_change < 0.0
    assert knows.weight > 10 * knows_nothing.weight
    assert knows_nothing.log_loss_change[1] <= 0.001


def test_groups_widen_the_interval(make_table):
    # Rows repeated within a group are no new evidence.
    table = make_table(n_neg=100, n_pos=20, n_folds=3)
    copies = np.repeat(np.arange(120), 4)
    repeated = replace(
        table,
        row_ids=table.row_ids[copies],
        labels=table.labels[copies],
        fold_of_row=table.fold_of_row[copies],
        groups=table.groups[copies],
        scores=table.scores[copies],
    )
    as_if_new = replace(repeated, groups=np.arange(480))
    _, grouped = contributions(repeated, seed=0, n_replicates=300)
    _, loose = contributions(as_if_new, seed=0, n_replicates=300)
    assert np.ptp(grouped[0].log_loss_change[1:]) > 1.5 * np.ptp(loose[0].log_loss_change[1:])


def test_a_lone_member_cannot_be_left_out(make_table):
    _, (only,) = contributions(make_table(strengths=(2.0,), anomaly_strengths=()), seed=0, n_replicates=100)
    assert only.weight > 0.0
    assert (only.without, only.log_loss_change, only.average_precision_change) == (None, None, None)
