"""How far two ways of computing agree, and where the gate closes."""

import numpy as np
import pytest

from evaluation.agreement import Outputs, agreement

LABELS = np.array([0] * 50 + [1] * 10)


def outputs(p: np.ndarray, scores: np.ndarray | None = None, threshold: float = 0.5) -> Outputs:
    decision = (p if p.ndim == 1 else p[:, 1]) >= threshold
    return Outputs(p, decision.astype(np.int64), p[:, None] if scores is None else scores)


@pytest.fixture
def p() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(0.3 * LABELS + rng.uniform(0, 0.7, len(LABELS)), 0, 1)


def test_the_same_agrees(p: np.ndarray) -> None:
    same = agreement(LABELS, outputs(p), outputs(p.copy()), ["only"])
    assert (same.auroc_change, same.max_probability_difference, same.decisions_changed) == (0.0, 0.0, 0)
    assert same.rank_correlation == {"only": pytest.approx(1.0)}
    assert same.accepted


def test_figures_by_hand() -> None:
    labels = np.array([0, 0, 1, 1])
    before = outputs(np.array([0.1, 0.2, 0.3, 0.9]))
    after = outputs(np.array([0.1, 0.6, 0.3, 0.9]))
    told = agreement(labels, before, after, ["only"])
    assert told.auroc == pytest.approx(0.75)
    assert told.auroc_change == pytest.approx(-0.25)
    assert told.max_probability_difference == pytest.approx(0.4)
    assert told.decisions_changed == 1
    assert told.rank_correlation["only"] == pytest.approx(0.8)
    assert not told.accepted
    assert told.to_json()["accepted"] is False


def test_a_gain_beyond_the_limit_is_refused_too() -> None:
    labels = np.array([0, 0, 1, 1])
    told = agreement(
        labels, outputs(np.array([0.1, 0.6, 0.3, 0.9])), outputs(np.array([0.1, 0.2, 0.3, 0.9])), ["only"]
    )
    assert told.auroc_change == pytest.approx(0.25)
    assert not told.accepted


def test_nan_is_never_accepted(p: np.ndarray) -> None:
    broken = p.copy()
    broken[3] = np.nan
    told = agreement(LABELS, outputs(p), outputs(broken), ["only"])
    assert not told.accepted
    assert np.isnan(told.rank_correlation["only"])


def test_three_classes_by_the_macro_auroc() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 20)
    p = rng.dirichlet([1.0, 1.0, 1.0], 60)
    scores = rng.normal(size=(60, 4))
    told = agreement(labels, outputs(p, scores), outputs(p, scores), list("abcd"))
    assert told.auroc_change == 0.0
    assert list(told.rank_correlation) == list("abcd")
