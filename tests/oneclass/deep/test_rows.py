"""Batches of rows some of which are left out: the same steps, without them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contracts.member import FitContext
from features.training import batches_of
from oneclass.deep import sphere
from oneclass.deep.deep_svdd import DeepSVDD
from oneclass.deep.deep_svdd_pixels import DeepSVDDPixels
from oneclass.deep.rows import SomeLeftOut, SphereRows
from oneclass.deep.settings import DeepSVDDPixelsSettings, DeepSVDDSettings
from tests.rows import synthetic_rows


class Numbers(torch.utils.data.Dataset):
    """Rows that are their own names."""

    def __init__(self, names):
        self.names = torch.tensor(names)

    def __getitems__(self, positions):
        return self.names[positions]


def batches(is_left_out, batch_size=4):
    names = np.flatnonzero(~is_left_out)
    rows = SphereRows(Numbers(names), torch.zeros(len(names), dtype=torch.bool))
    return [
        [] if batch is None else batch.inputs.tolist()
        for batch in batches_of(SomeLeftOut(rows, is_left_out), batch_size, seed=5)
    ]


def test_the_same_batches_in_the_same_order_without_what_is_left_out():
    whole = batches(np.zeros(21, dtype=bool))
    assert sorted(name for batch in whole for name in batch) == list(range(21))
    is_left_out = np.isin(np.arange(21), [0, 3, *whole[-1]])
    some = batches(is_left_out)
    assert some == [[name for name in batch if not is_left_out[name]] for batch in whole]
    assert some[-1] == []  # a step that nothing is left for


@pytest.mark.parametrize(
    ("member", "settings"),
    [
        (DeepSVDD, DeepSVDDSettings(hidden=8, embedding_dim=4, epochs=2, batch_size=2)),
        (
            DeepSVDDPixels,
            DeepSVDDPixelsSettings(
                filters=(2, 2), embedding_dim=4, epochs=1, pretrain_epochs=1, batch_size=2, contrast="none"
            ),
        ),
    ],
    ids=["cells", "pixels"],
)
def test_nothing_of_a_row_that_is_left_out_reaches_a_network(member, settings):
    """Held by changing the row: batches of two, so that some steps have no row at all."""
    rows, context = synthetic_rows((12, 0)), FitContext(0)
    is_left_out = np.isin(np.arange(12), [2, 3, 7, 8])
    one = member(settings)._fit_on(rows, 12, is_left_out, context)
    rows.base.patches[is_left_out] += 50.0
    rows.base.images[is_left_out] = 0
    other = member(settings)._fit_on(rows, 12, is_left_out, context)
    nothing_left_out = member(settings)._fit_on(rows, 12, np.zeros(12, dtype=bool), context)
    states = [network.state_dict() for network in (one, other, nothing_left_out)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_scores_are_moved_and_widened_as_pairs_were():
    log_scores = np.random.default_rng(0).normal(3.0, 0.5, size=200)
    seen = np.array([-1.0, 0.0, 1.0])
    moved = sphere._as_if_unseen(log_scores, seen, 2.0 * seen + 1.5)
    assert moved.mean() == pytest.approx(log_scores.mean() + 0.9 * 1.5 * log_scores.std())
    assert moved.std() == pytest.approx(2.0 * log_scores.std())
    # What the images themselves are like does not matter, only what became of them.
    odd = sphere._as_if_unseen(log_scores, seen + 4.0, 2.0 * seen + 5.5)
    np.testing.assert_allclose(odd, moved)
