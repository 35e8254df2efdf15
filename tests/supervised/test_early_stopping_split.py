"""Rows set aside for early stopping: of every class, and never a part of a group."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import DataError
from supervised.labels import early_stopping_split


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_groups_never_part_and_classes_are_on_both_sides(seed: int, group_size: int) -> None:
    labels = np.repeat([0, 1], [80, 20])
    groups = np.arange(100) // group_size
    fit, stop = early_stopping_split(labels, groups, 0.2, seed)
    assert sorted([*fit, *stop]) == list(range(100))
    assert not set(groups[fit]) & set(groups[stop])
    for side in (fit, stop):
        assert set(labels[side]) == {0, 1}
    assert 0.1 <= len(stop) / 100 <= 0.3


def test_the_same_seed_gives_the_same_rows() -> None:
    labels, groups = np.repeat([0, 1], [30, 10]), np.arange(40)
    first, second = (early_stopping_split(labels, groups, 0.15, 3)[1] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match="too few to set rows of every class aside"):
        early_stopping_split(np.repeat([0, 1], [30, 10]), np.zeros(40, dtype=np.int64), 0.15, 0)
