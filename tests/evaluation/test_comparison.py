"""The results table: shape, pairing, coverage of intervals, memory; two classes and more."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from scipy.stats import binomtest

from contracts.errors import DataError, ModelError
from evaluation.comparison import Predictions, clopper_pearson, compare
from evaluation.metrics import metrics_for
from evaluation.rows import class_probabilities
from tests.evaluation.made_up import COUNTS_OF, made_up

RNG = np.random.default_rng(0)
LABELS = np.r_[np.zeros(400, int), np.ones(40, int)]
NAMES = ("a", "b", "c", "d")


def noisy(strength, seed, kind="supervised"):
    """A model of two classes at threshold 0.5."""
    rng = np.random.default_rng(seed)
    return of_minority(1 / (1 + np.exp(-(strength * (LABELS - 0.5) + rng.normal(size=len(LABELS))))), kind)


def of_minority(p, kind="supervised"):
    return Predictions(kind, class_probabilities(p), (p >= 0.5).astype(int))


def table(labels, predictions, groups=None, **settings):
    """The table of one repeat; its first model is the baseline."""
    groups = np.arange(len(labels)) if groups is None else groups
    n_classes = next(iter(predictions.values())).p.shape[1]
    baseline = next(iter(predictions))
    return compare(labels, groups, [predictions], baseline, NAMES[:n_classes], **settings)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_rows_have_the_promised_shape(n_classes):
    rows = made_up(COUNTS_OF[n_classes])
    better = 0.5 * rows.p + 0.5 * np.eye(n_classes)[rows.labels]
    predictions = {
        "calibrated_baseline": Predictions("baseline", rows.p, rows.decision),
        "ensemble": Predictions("ensemble", better, better.argmax(axis=1)),
    }
    baseline, ensemble = found = table(rows.labels, predictions, n_replicates=300)
    assert json.loads(json.dumps(found)) == found
    assert [(row["name"], row["kind"]) for row in found] == [
        ("calibrated_baseline", "baseline"),
        ("ensemble", "ensemble"),
    ]
    per_class = ["per_class_recall", "per_class_recall_minus_baseline"] if n_classes > 2 else []
    tail = ["intervals", "minus_baseline", "p_values", *per_class]
    assert list(ensemble) == ["name", "kind", *metrics_for(n_classes), *tail]
    for metric in metrics_for(n_classes):
        low, high = ensemble["intervals"][metric]
        assert low <= ensemble[metric] <= high or metric == "ece"
        estimate, below, above = ensemble["minus_baseline"][metric]
        assert estimate == pytest.approx(ensemble[metric] - baseline[metric])
        assert below <= above
        assert baseline["minus_baseline"][metric] == [0.0, 0.0, 0.0]
        assert baseline["p_values"][metric] == 1.0
    assert ensemble["minus_baseline"]["balanced_accuracy"][1] > 0
    assert ensemble["p_values"]["balanced_accuracy"] < 0.05


def test_class_recalls_are_those_of_the_decisions():
    rows = made_up(COUNTS_OF[4])
    (found,) = table(rows.labels, {"a": Predictions("baseline", rows.p, rows.decision)}, n_replicates=100)
    assert list(found["per_class_recall"]) == list(NAMES)
    hits = int((rows.decision[rows.labels == 3] == 3).sum())
    assert found["per_class_recall"]["d"] == [hits / 7, *clopper_pearson(hits, 7)]
    recalls = [value for value, _, _ in found["per_class_recall"].values()]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))


def test_two_classes_are_a_case_of_k():
    """The minority of two classes has the figures of that class against the rest, computed among K."""
    rows = made_up((60, 30, 10))
    merged = np.stack([rows.p[:, :2].sum(axis=1), rows.p[:, 2]], axis=1)
    of_three, of_two = (
        table(labels, {"m": Predictions("baseline", p, decision)}, np.arange(100), n_replicates=50)[0]
        for labels, p, decision in (
            (rows.labels, rows.p, rows.decision),
            ((rows.labels == 2).astype(int), merged, (rows.decision == 2).astype(int)),
        )
    )
    assert of_three["minority_average_precision"] == pytest.approx(of_two["average_precision"])
    assert of_three["per_class_recall"]["c"] == pytest.approx(
        [of_two["recall"], *of_two["intervals"]["recall"]]
    )


def test_intervals_are_those_of_plain_resampling():
    """Percentiles of the vectorised replicates against drawing rows one replicate at a time."""
    rows = made_up(COUNTS_OF[4], seed=4)
    (found,) = table(rows.labels, {"c": Predictions("baseline", rows.p, rows.decision)}, n_replicates=4000)
    rng = np.random.default_rng(0)
    of_class = [np.flatnonzero(rows.labels == k) for k in range(4)]
    drawn = []
    for _ in range(4000):
        chosen = [rng.choice(mine, len(mine)) for mine in of_class]
        drawn.append(np.mean([(rows.decision[mine] == k).mean() for k, mine in enumerate(chosen)]))
    bounds = np.percentile(drawn, [2.5, 97.5])
    np.testing.assert_allclose(found["intervals"]["balanced_accuracy"], bounds, atol=0.012)


def test_differences_are_paired():
    base = noisy(2, 0)
    almost = of_minority(np.clip(base.p[:, 1] + RNG.normal(0, 1e-4, len(LABELS)), 0, 1))
    row = table(LABELS, {"a": base, "b": almost}, n_replicates=300)[1]
    width = row["intervals"]["auroc"][1] - row["intervals"]["auroc"][0]
    paired_width = row["minus_baseline"]["auroc"][2] - row["minus_baseline"]["auroc"][1]
    assert paired_width < width / 20


@pytest.mark.parametrize("n_classes", [2, 4])
def test_groups_are_drawn_whole(n_classes):
    """Ten copies of every row in one group add no information; ten copies as single rows pretend to."""
    rows = made_up(COUNTS_OF[n_classes], seed=5)
    labels, p, decision = (np.repeat(values, 10, axis=0) for values in (rows.labels, rows.p, rows.decision))
    widths = []
    for groups in (np.arange(len(labels)) // 10, np.arange(len(labels))):
        (found,) = table(labels, {"c": Predictions("baseline", p, decision)}, groups, n_replicates=500)
        low, high = found["intervals"]["balanced_accuracy"]
        widths.append(high - low)
    assert widths[0] > 2.5 * widths[1]


def test_recall_interval_is_exact_for_independent_rows_only():
    perfect = {"a": of_minority(LABELS * 0.9 + 0.05)}
    independent = table(LABELS, perfect, n_replicates=50)[0]
    exact = binomtest(40, 40).proportion_ci(method="exact")
    assert independent["intervals"]["recall"] == pytest.approx([exact.low, exact.high])
    grouped = table(LABELS, perfect, np.arange(440) // 2, n_replicates=50)[0]
    assert grouped["intervals"]["recall"] == [1.0, 1.0]


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (3, 7), (39, 40), (40, 40)])
def test_clopper_pearson_equals_scipy(hits, trials):
    exact = binomtest(hits, trials).proportion_ci(method="exact")
    assert clopper_pearson(hits, trials) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("n_classes", [2, 4])
def test_unknown_baseline_names_the_nearest(n_classes):
    rows = made_up(COUNTS_OF[n_classes])
    models = {"calibrated_baseline": Predictions("baseline", rows.p, rows.decision)}
    with pytest.raises(ModelError, match=r"no predictions of the baseline .* Did you mean 'calibrated_base"):
        compare(rows.labels, np.arange(len(rows.labels)), [models], "calibrated_baselin", NAMES[:n_classes])


def test_a_missing_class_is_refused():
    with pytest.raises(DataError, match="class 1 of 2 has no rows"):
        table(np.zeros(440, int), {"a": noisy(1, 0)})


def test_same_seed_same_table():
    predictions = {"a": noisy(2, 0)}
    one = table(LABELS, predictions, seed=1, n_replicates=100)
    assert one == table(LABELS, predictions, seed=1, n_replicates=100)
    assert one != table(LABELS, predictions, seed=2, n_replicates=100)


@pytest.mark.parametrize("counts", [(9000, 1000), (2000,) * 4])
def test_memory_stays_bounded_where_rows_are_many(counts):
    rows = made_up(counts, strength=1.0)
    tracemalloc.start()
    try:
        table(rows.labels, {"c": Predictions("baseline", rows.p, rows.decision)}, n_replicates=500)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The weights of all replicates at once would be 40 MB, their sums over 100; those of a block are 15.
    assert peak < 70e6
