"""The check that a member still tells images apart."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import MemberCollapsedError
from oneclass.collapse import require_distinct_scores


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
