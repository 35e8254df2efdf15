"""Curves of K classes against those of each class alone, and against rows written out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from contracts.errors import DataError
from evaluation.curves import WeightedCurves
from evaluation.multiclass import top_label_gap
from evaluation.multiclass_curves import WeightedMulticlassCurves, multiclass_curves

K = 4


def made_up_rows(decimals: int) -> tuple[np.ndarray, np.ndarray]:
    """``[N]`` labels, and ``[N, K]`` probabilities with ties, some of them 0."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(K), (40, 25, 12, 6)).astype(np.int64)
    p = rng.dirichlet(np.ones(K), len(labels)) + 0.6 * np.eye(K)[labels] * rng.uniform(size=(len(labels), 1))
    p = np.round(p, decimals)
    p[p.sum(axis=1) == 0] = 1.0
    return labels, p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("decimals", [1, 6])
def test_precision_of_a_class_is_that_of_two_classes(decimals):
    labels, p = made_up_rows(decimals)
    weights = np.random.default_rng(1).integers(0, 3, (7, len(labels))).astype(np.float64)
    weights[:, [0, 40, 65, 77]] = 1.0  # no class without weight
    precisions, _ = WeightedMulticlassCurves(labels, p)(np.ascontiguousarray(weights.T))
    for label in range(K):
        alone = WeightedCurves((labels == label).astype(np.int64), p[:, label], 0.5)(weights)
        np.testing.assert_allclose(precisions[label], alone["precision_recall"], atol=1e-12)


def test_reliability_is_the_share_right_in_each_bin():
    labels, p = made_up_rows(1)
    evaluate = WeightedMulticlassCurves(labels, p)
    counts = np.random.default_rng(2).integers(1, 4, len(labels))
    _, right = evaluate(counts[:, None].astype(np.float64))
    _, bins, _ = top_label_gap(labels, p)
    for place, each in enumerate(sorted(set(bins.tolist()))):
        rows = np.flatnonzero(bins == each)
        drawn = np.repeat(rows, counts[rows])
        assert right[0, place] == pytest.approx(np.mean(p[drawn].argmax(axis=1) == labels[drawn]))
        assert evaluate.mean_confidence_of_bin[place] == pytest.approx(p[rows].max(axis=1).mean())


def test_bands_hold_their_curves_and_follow_from_the_seed():
    labels, p = made_up_rows(6)
    given = {"seed": 3, "n_replicates": 60}
    groups = np.arange(len(labels))
    one, again = (multiclass_curves(labels, groups, {"m": p}, **given)["m"] for _ in range(2))
    assert len(one.precision_recall) == K
    for label, band in enumerate(one.precision_recall):
        assert (band.low <= band.high).all()
        assert np.mean((band.low <= band.y + 1e-12) & (band.y <= band.high + 1e-12)) > 0.8
        np.testing.assert_array_equal(band.low, again.precision_recall[label].low)
        expected = average_precision_score(labels == label, p[:, label])
        assert one.average_precision[label] == pytest.approx(expected)
    other = multiclass_curves(labels, groups, {"m": p}, seed=4, n_replicates=60)["m"]
    assert (other.precision_recall[-1].low != one.precision_recall[-1].low).any()


def test_no_class_may_be_missing():
    labels, p = made_up_rows(6)
    labels[labels == 2] = 1
    with pytest.raises(DataError, match="class 2 of 4 has no rows"):
        multiclass_curves(labels, np.arange(len(labels)), {"m": p}, seed=0, n_replicates=5)
