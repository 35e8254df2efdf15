"""kNN on pooled features, and the nearest rows of a bank."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contracts.errors import MemberCollapsedError
from contracts.member import FitContext
from features.spread import floored_spread
from oneclass.majority import drawn_rows
from oneclass.neighbours.knn import Knn
from oneclass.neighbours.nearest import NearestRows
from oneclass.neighbours.settings import KnnSettings
from tests.rows import synthetic_rows


def fitted(rows, **settings):
    return Knn(KnnSettings(**settings)).fit(rows, FitContext(0))


def slow(bank, rows, k):
    """Mean distance to the k nearest, row by row, in double precision."""
    distances = [np.sort(np.linalg.norm(bank.astype(np.float64) - row, axis=1))[:k].mean() for row in rows]
    return np.array(distances)


@pytest.mark.parametrize("scale", ["none", "unit_length", "standard"])
@pytest.mark.parametrize("k", [1, 2, 500])
def test_scores_against_slow_reference(scale, k):
    rows, new = synthetic_rows(), synthetic_rows((10, 10), seed=1)
    bank = rows.subset(np.flatnonzero(rows.labels == 0)).pooled()
    asked = new.pooled()
    if scale == "standard":
        spread = floored_spread(bank.std(axis=0))
        bank, asked = bank / spread, asked / spread
    if scale == "unit_length":
        bank, asked = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, asked))
    got = fitted(rows, neighbours=k, pooled_scale=scale).raw_score(new)[:, 0]
    np.testing.assert_allclose(got, slow(bank, asked, k), rtol=1e-4)


def test_large_features_keep_their_small_distances():
    generator = torch.Generator().manual_seed(0)
    bank = 300.0 + torch.randn(50, 64, generator=generator)
    rows = 300.0 + torch.randn(9, 64, generator=generator)
    expected = torch.cdist(rows.double(), bank.double()).sort(dim=1).values[:, :2].mean(dim=1)
    torch.testing.assert_close(NearestRows(bank, 2)(rows).double(), expected, rtol=1e-4, atol=0)


def test_the_bank_is_bounded_and_of_the_majority():
    rows = synthetic_rows((80, 20))
    bank = fitted(rows, bank_size=30, pooled_scale="none").raw_module().nearest.bank.numpy()
    assert len(bank) == 30
    majority = rows.subset(np.flatnonzero(rows.labels == 0)).pooled()
    assert all((majority == row).all(axis=1).any() for row in bank)
    assert len(np.unique(bank, axis=0)) == 30


def test_drawn_rows_are_all_where_there_are_few():
    assert drawn_rows(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    drawn = drawn_rows(1000, 10, 0)
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() == drawn_rows(1000, 10, 0).tolist() != drawn_rows(1000, 10, 1).tolist()


def test_a_feature_that_is_silent_on_the_majority_has_the_usual_scale():
    rows = synthetic_rows()
    rows.base.pooled[rows.labels == 0, 3] = 0.0
    scale = fitted(rows, pooled_scale="standard").raw_module().scale
    assert 0.5 < scale[3] / scale.median() < 1.0


def test_constant_rows_are_a_collapse():
    rows = synthetic_rows()
    rows.base.pooled[:] = rows.base.pooled[:1]
    with pytest.raises(MemberCollapsedError, match="knn: collapsed, its 60 majority rows are all alike"):
        fitted(rows)


def test_rows_that_mostly_repeat_each_other_are_a_collapse():
    rows = synthetic_rows((60, 20))
    majority = np.flatnonzero(rows.labels == 0)
    rows.base.pooled[majority] = rows.base.pooled[majority[np.arange(60) % 5]]
    with pytest.raises(MemberCollapsedError, match="knn: collapsed"):
        fitted(rows)


@pytest.mark.parametrize("majority", [1, 2, 3])
def test_few_majority_rows_are_enough(majority):
    rows = synthetic_rows((majority, 5))
    assert np.isfinite(fitted(rows).score(rows)).all()
