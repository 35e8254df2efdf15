"""Which rows are held out for the scale of the scores."""

from __future__ import annotations

import numpy as np
import pytest

from oneclass.majority import held_out_parts


@pytest.mark.parametrize(("n_parts", "share"), [(5, 0.2), (10, 0.1)])
def test_parts_are_apart_and_of_equal_shares(n_parts, share):
    parts = held_out_parts(np.arange(100), 0, n_parts)
    assert [part.mean() for part in parts] == [share] * n_parts
    assert (np.sum(parts, axis=0) == 1).all()


def test_families_stay_together():
    families = np.repeat(np.arange(10), 3)
    for part in held_out_parts(families, 1):
        assert np.isin(families, families[part]).sum() == part.sum() == 6


def test_no_more_parts_than_hold_enough_rows():
    assert len(held_out_parts(np.arange(100), 0, enough=20)) == 1
    assert len(held_out_parts(np.arange(100), 0, enough=21)) == 2
    assert len(held_out_parts(np.arange(100), 0, most=3)) == 3
    assert len(held_out_parts(np.arange(3), 0)) == 3
    assert held_out_parts(np.zeros(9, dtype=int), 0) == []
