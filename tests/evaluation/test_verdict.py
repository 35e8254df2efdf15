"""Verdicts: p-values of differences, the correction for many, and which way is better."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.verdict import bootstrap_p_value, holm, verdict


def test_p_value_counts_the_smaller_side_twice() -> None:
    assert bootstrap_p_value(np.array([1.0] * 97 + [-1.0] * 2)) == pytest.approx(2 * 3 / 100)
    assert bootstrap_p_value(-np.array([1.0] * 97 + [-1.0] * 2)) == pytest.approx(2 * 3 / 100)
    assert bootstrap_p_value(np.ones(1999)) == pytest.approx(2 / 2000)
    assert bootstrap_p_value(np.zeros(100)) == 1.0


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04; steps never go down again.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_the_raw_and_bonferronis(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, value in zip(p_values, adjusted, strict=True):
        assert raw <= value <= min(1.0, raw * len(p_values)) + 1e-12
    assert list(np.argsort(p_values, kind="stable")) == list(np.argsort(adjusted, kind="stable")) or len(
        set(adjusted)
    ) < len(adjusted)


@pytest.mark.parametrize(
    ("difference", "p", "higher", "said"),
    [
        (0.1, 0.01, True, "better"),
        (-0.1, 0.01, True, "worse"),
        (-0.1, 0.01, False, "better"),
        (0.1, 0.05, True, "no difference shown"),
        (0.0, 0.01, True, "no difference shown"),
    ],
)
def test_verdict(difference: float, p: float, higher: bool, said: str) -> None:
    assert verdict(difference, p, higher) == said


def test_a_false_alarm_among_many_is_rare() -> None:
    """Twenty comparisons of nothing, two hundred times: with Holm hardly any family has a finding."""
    generator = np.random.default_rng(0)
    found, uncorrected = 0, 0
    for _ in range(200):
        shift = generator.normal(0, 1, (20, 1))
        replicates = shift + generator.normal(0, 1, (20, 1999))
        p_values = [bootstrap_p_value(row) for row in replicates]
        found += min(holm(p_values)) < 0.05
        uncorrected += min(p_values) < 0.05
    assert found / 200 < 0.10
    assert uncorrected / 200 > 0.5
