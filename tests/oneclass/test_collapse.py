"""The check that a member still tells images apart."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import MemberCollapsedError
from oneclass.collapse import require_distinct_scores, require_spread_embeddings


def column(values):
    return np.asarray(values, dtype=np.float32)[:, None]


def test_varied_scores_pass():
    require_distinct_scores("m", column(np.linspace(1.0, 1.1, 50)))
    require_distinct_scores("m", column([0.0, 1e-8]))  # the spread is relative


def test_half_distinct_passes_and_less_does_not():
    require_distinct_scores("m", column([1, 2, 3, 1, 2, 3]))
    with pytest.raises(MemberCollapsedError, match=r"m: collapsed, 2 distinct scores among 6 images"):
        require_distinct_scores("m", column([1, 2, 2, 1, 2, 2]))


def test_all_the_same():
    with pytest.raises(MemberCollapsedError, match=r"1 distinct scores among 30 images, relative spread 0"):
        require_distinct_scores("m", column(np.full(30, 0.7)))


def test_distinct_but_next_to_equal():
    with pytest.raises(MemberCollapsedError, match=r"relative spread 1\.8e-04"):
        require_distinct_scores("m", column(1.0 + np.linspace(0, 6e-4, 50)))


def test_all_zero():
    with pytest.raises(MemberCollapsedError, match="collapsed"):
        require_distinct_scores("m", column(np.zeros(9)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(bad):
    with pytest.raises(MemberCollapsedError, match="m: 2 scores are not finite"):
        require_distinct_scores("m", column([1, 2, bad, 4, bad]))


def test_a_single_image_proves_nothing():
    require_distinct_scores("m", column([0.5]))


def embeddings(spread, n=40):
    """``[n, 8]`` around a centre of norm 1."""
    centre = np.full(8, 8**-0.5)
    noise = np.random.default_rng(0).normal(size=(n, 8))
    return (centre + spread * noise).astype(np.float32), centre.astype(np.float32)


def test_embeddings_that_are_spread_pass():
    require_spread_embeddings("m", *embeddings(1e-3))


def test_embeddings_in_one_place_do_not_though_their_distances_vary():
    phi, centre = embeddings(1e-6)
    distances = np.linalg.norm(phi.astype(np.float64) - centre, axis=1)[:, None]
    assert distances.std() / distances.mean() > 0.1  # in proportion they differ a lot
    with pytest.raises(
        MemberCollapsedError, match=r"m: collapsed, the embeddings of 40 images have a spread of only 2"
    ):
        require_spread_embeddings("m", phi, centre)


def test_embeddings_that_are_no_numbers():
    phi, centre = embeddings(1.0)
    phi[3, 2] = np.nan
    with pytest.raises(MemberCollapsedError, match="not finite"):
        require_spread_embeddings("m", phi, centre)
