"""How far two ways of computing agree, and where the gate closes."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.agreement import Outputs, agreement

LABELS = np.array([0] * 50 + [1] * 10)


def outputs(p: np.ndarray, scores: np.ndarray | None = None, threshold: float = 0.5) -> Outputs:
    decision = (p if p.ndim == 1 else p[:, 1]) >= threshold
    return Outputs(p, decision.astype(np.int64), p[:, None] if scores is None else scores)


def ranked(n_negative: int, n_positive: int, swapped: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities in perfect order, but for some positives that come last; none is flagged."""
    labels = np.array([0] * n_negative + [1] * n_positive)
    p = np.linspace(0.2, 0.4, len(labels))
    p[n_negative : n_negative + swapped] = np.linspace(0.01, 0.02, swapped)
    return labels, p


@pytest.fixture
def p() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(0.3 * LABELS + rng.uniform(0, 0.7, len(LABELS)), 0, 1)


def test_the_same_agrees(p: np.ndarray) -> None:
    same = agreement(LABELS, outputs(p), outputs(p.copy()), ["only"])
    assert (same.auroc_change, same.max_probability_difference, same.decisions_changed) == (0.0, 0.0, 0)
    assert same.auroc_change_interval == (0.0, 0.0)
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
    document = told.to_json()
    assert document["decisions_changed_share"] == 0.25
    assert document["limits"] == {
        "auroc_loss": 0.002,
        "decisions_changed_share": 0.02,
        "rank_correlation_of_runtimes": 0.8,
    }
    # One decision of four is the reason; a loss is not shown by two images of a class.
    assert document["accepted"] is False
    assert document["refusals"] == ["1 of 4 decisions change, more than the tolerated 2%"]


def test_the_interval_is_that_of_delong() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [300, 60])
    one = rng.normal(labels * 1.2)
    two = one + rng.normal(scale=0.5, size=360)
    told = agreement(labels, outputs(one), outputs(two), ["only"])
    assert told.auroc_change == pytest.approx(roc_auc_score(labels, two) - roc_auc_score(labels, one))
    # DeLong's formula, pair by pair.
    wins = [(s[labels == 1][:, None] > s[labels == 0]).astype(float) for s in (one, two)]
    difference = wins[1] - wins[0]
    variance = difference.mean(axis=1).var(ddof=1) / 60 + difference.mean(axis=0).var(ddof=1) / 300
    low, high = told.auroc_change_interval
    t_59 = 2.000995
    assert (high - low) / 2 == pytest.approx(t_59 * np.sqrt(variance), rel=1e-6)
    # It means what it says: 95 of 100 bootstrap samples lie inside, give or take.
    drawn = [
        np.concatenate([rng.choice(np.flatnonzero(labels == k), n) for k, n in ((0, 300), (1, 60))])
        for _ in range(400)
    ]
    changes = [roc_auc_score(labels[d], two[d]) - roc_auc_score(labels[d], one[d]) for d in drawn]
    assert 0.91 < np.mean([low <= change <= high for change in changes]) < 0.99


def test_a_gain_is_never_refused() -> None:
    labels, better = ranked(200, 100)
    _, worse = ranked(200, 100, swapped=30)
    told = agreement(labels, outputs(worse), outputs(better), ["only"])
    assert told.auroc_change == pytest.approx(0.3)
    assert told.accepted


def test_a_loss_that_is_shown_is_refused_with_its_interval() -> None:
    labels, before = ranked(200, 100)
    _, after = ranked(200, 100, swapped=30)
    told = agreement(labels, outputs(before), outputs(after), ["only"])
    assert told.decisions_changed == 0
    assert told.auroc_change_interval[1] < -0.002
    (reason,) = told.refusals
    assert reason.startswith("the AUROC falls by 0.3000 to 0.7000, shown to be more than the tolerated 0.002")
    assert "95 % interval of the change -0.3914 to -0.2086" in reason


def test_a_loss_that_is_not_shown_is_no_reason() -> None:
    # One of a hundred positives falls behind: -0.01, five times what is tolerated, but it may be chance.
    labels, before = ranked(200, 100)
    _, after = ranked(200, 100, swapped=1)
    told = agreement(labels, outputs(before), outputs(after), ["only"])
    assert told.auroc_change == pytest.approx(-0.01)
    assert told.auroc_change_interval[1] > -0.002
    assert told.accepted


@pytest.mark.parametrize("positives", [1, 2, 3])
def test_few_positives_show_nothing(positives: int) -> None:
    labels, before = ranked(500, positives)
    _, after = ranked(500, positives, swapped=1)
    told = agreement(labels, outputs(before), outputs(after), ["only"])
    assert told.auroc_change == pytest.approx(-1 / positives)
    assert told.accepted


def test_with_few_positives_changed_decisions_still_refuse() -> None:
    labels, before = ranked(97, 3)
    after = before.copy()
    after[:2] = 0.9
    assert agreement(labels, outputs(before), outputs(after), ["only"]).accepted  # 2 of 100
    after[:3] = 0.9
    told = agreement(labels, outputs(before), outputs(after), ["only"])
    assert told.refusals == ["3 of 100 decisions change, more than the tolerated 2%"]


def test_a_runtime_that_ranks_a_member_differently_is_refused(p: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    good = rng.normal(size=60)
    reference = outputs(p, np.stack([good, good], axis=1))
    read = outputs(p, np.stack([good, rng.normal(size=60)], axis=1))
    # The precision may ruin a member without harm to the ensemble; people see it, the gate lets it pass.
    told = agreement(LABELS, reference, read, ["patchcore", "cnn"])
    assert told.rank_correlation["cnn"] < 0.3
    assert told.accepted
    # A runtime may not ruin what another reads well from the same file.
    told = agreement(LABELS, reference, read, ["patchcore", "cnn"], same_file=reference)
    (reason,) = told.refusals
    assert "ranks images differently from ONNX Runtime on the same file (rank correlation cnn" in reason
    assert "patchcore" not in reason
    constant = outputs(p, np.stack([good, np.zeros(60)], axis=1))
    assert not agreement(LABELS, reference, constant, ["patchcore", "cnn"], same_file=reference).accepted


def test_nan_is_never_accepted(p: np.ndarray) -> None:
    broken = p.copy()
    broken[3] = np.nan
    told = agreement(LABELS, outputs(p), outputs(broken), ["only"])
    assert told.refusals == ["some of its probabilities are not finite"]
    assert np.isnan(told.rank_correlation["only"])


def test_three_classes_by_the_macro_auroc() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 20)
    p = rng.dirichlet([1.0, 1.0, 1.0], 60)
    scores = rng.normal(size=(60, 4))
    told = agreement(labels, outputs(p, scores), outputs(p, scores), list("abcd"))
    assert told.auroc == pytest.approx(roc_auc_score(labels, p, multi_class="ovr"))
    assert told.auroc_change == 0.0
    assert list(told.rank_correlation) == list("abcd")
    other = rng.dirichlet([1.0, 1.0, 1.0], 60)
    told = agreement(labels, outputs(p, scores), outputs(other, scores), list("abcd"))
    low, high = told.auroc_change_interval
    assert low < told.auroc_change < high
