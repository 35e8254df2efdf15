"""Rows that may not be normal are left out of a one-class fit."""

import numpy as np
import pytest

from contracts.member import FitContext
from features.settings import BackboneSettings
from tests.rows import ArrayRows, synthetic_rows
from workflow.settings.registry import build_member, settings_class
from workflow.training.contamination import typical_positions

KINDS = 4


class Unlabelled(ArrayRows):
    """The same rows, but nobody has told the classes apart."""

    @property
    def labels(self):
        return np.zeros(len(self), dtype=np.int64)

    def subset(self, indices):
        return Unlabelled(self.base, self.positions[indices])


@pytest.fixture(scope="module")
def rows():
    # Each of a kind of its own: anomalies that are all alike vouch for one another.
    return Unlabelled(synthetic_rows((56, *[1] * KINDS), seed=3, strength=3.0).base)


def member():
    return build_member("mahalanobis", settings_class("mahalanobis")(), BackboneSettings())


def left_out(rows, share, **context):
    kept = typical_positions(member, rows, share, FitContext(seed=0, **context))
    assert (np.diff(kept) > 0).all()
    return np.setdiff1d(np.arange(len(rows)), kept)


def test_hidden_anomalies_are_left_out(rows):
    hidden = np.flatnonzero(rows.base.labels)
    assert set(hidden) <= set(left_out(rows, 0.1))


def test_exactly_the_assumed_share_is_left_out_and_said(rows):
    said = []
    assert len(left_out(rows, 0.1, report=said.append)) == 6
    assert said == ["6 of 60 images are left out of the fit as the most anomalous ones (contamination=0.1)"]


def test_labelled_minority_rows_stay(rows):
    labelled = synthetic_rows((56, 4), seed=3)
    positions = left_out(labelled, 0.1)
    assert len(positions) == 5  # of the 56 that are taken to be normal
    assert (labelled.labels[positions] == 0).all()


@pytest.mark.parametrize(("share", "n"), [(0.0, 60), (0.01, 60), (0.4, 9)])
def test_nothing_is_left_out_where_there_is_nothing_to_leave(rows, share, n):
    assert len(left_out(rows.subset(np.arange(n)), share)) == 0


def test_the_order_of_the_rows_does_not_matter(rows):
    order = np.random.default_rng(0).permutation(60)
    there = set(left_out(rows, 0.1).tolist())
    shuffled = left_out(rows.subset(order), 0.1)
    assert {int(order[i]) for i in shuffled} == there
