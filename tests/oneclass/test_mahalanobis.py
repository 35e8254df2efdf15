"""Mahalanobis distance with a shrunk covariance, against scikit-learn's own."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from contracts.errors import MemberCollapsedError
from contracts.member import FitContext
from features.spread import floored_spread
from oneclass.mahalanobis import Mahalanobis, MahalanobisSettings
from tests.rows import synthetic_rows


def fitted(rows, report=lambda sentence: None, **settings):
    return Mahalanobis(MahalanobisSettings(**settings)).fit(rows, FitContext(0, report=report))


@pytest.mark.parametrize("majority", [8, 60])  # fewer rows than the 12 features, and more
def test_scores_are_scikit_learns(majority):
    rows, new = synthetic_rows((majority, 20)), synthetic_rows((10, 10), seed=1)
    normal = rows.subset(np.flatnonzero(rows.labels == 0)).pooled().astype(np.float64)
    mean, std = normal.mean(axis=0), floored_spread(normal.std(axis=0))
    reference = LedoitWolf().fit((normal - mean) / std)
    expected = np.sqrt(reference.mahalanobis((new.pooled() - mean) / std))
    np.testing.assert_allclose(fitted(rows).raw_score(new)[:, 0], expected, rtol=1e-3)


def test_shrinkage_is_reported():
    sentences = []
    fitted(synthetic_rows((8, 20)), sentences.append)
    assert sentences[0].startswith("covariance of 8 rows shrunk by 0.")


def test_rows_are_bounded():
    sentences = []
    fitted(synthetic_rows((60, 20)), sentences.append, max_rows=30)
    assert sentences[0].startswith("covariance of 30 rows")


def test_a_feature_that_is_silent_on_the_majority_does_not_drown_the_others():
    rows = synthetic_rows()
    rows.base.pooled[rows.labels == 0, 3] = 0.0
    member = fitted(rows)
    loud = synthetic_rows((10, 0), seed=1)
    quiet = member.raw_score(loud).mean()
    loud.base.pooled[:, 3] += 1.0
    assert member.raw_score(loud).mean() < 1.5 * quiet


def test_features_that_depend_on_each_other_have_an_inverse_still():
    rows = synthetic_rows((500, 20))
    rows.base.pooled[:, 5] = 2.0 * rows.base.pooled[:, 4]
    assert np.isfinite(fitted(rows).score(rows)).all()


def test_constant_rows_are_a_collapse():
    rows = synthetic_rows()
    rows.base.pooled[:] = rows.base.pooled[:1]
    with pytest.raises(MemberCollapsedError, match="mahalanobis: collapsed, its 60 majority rows"):
        fitted(rows)


@pytest.mark.parametrize("majority", [1, 2])
def test_few_majority_rows_are_enough(majority):
    rows = synthetic_rows((majority, 5))
    assert np.isfinite(fitted(rows).score(rows)).all()
