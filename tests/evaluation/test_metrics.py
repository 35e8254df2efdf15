"""Every metric against hand-computed values, against libraries in every replicate, and refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.metrics import geometric_mean_score

from contracts.errors import DataError
from evaluation.bootstrap import replicate_weights
from evaluation.metrics import METRICS, default_metric, metrics_for
from evaluation.ranking import macro_auroc, ranking_figures
from evaluation.rows import Rows, class_recalls, ece_bin_of_row
from evaluation.sums import WeightedRows
from tests.evaluation.made_up import COUNTS_OF, made_up, two_classes, values_of
from tests.evaluation.slow_metrics import slow_ece, slow_metrics

ROOT = Path(__file__).parents[2]
LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1])
P = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.5, 0.9])


def test_two_classes_by_hand():
    values = values_of(two_classes(LABELS, P, 0.5))
    # Flagged: rows 4, 5, 6, 7 → TP 2, FP 2, TN 4.
    assert values["recall"] == 1.0
    assert values["balanced_accuracy"] == pytest.approx(5 / 6)
    assert values["hter"] == pytest.approx(1 / 6)
    assert values["f1"] == pytest.approx(2 / 3)
    assert values["g_mean"] == pytest.approx(np.sqrt(4 / 6))
    # 0.9 beats six; 0.5 beats four, ties one.
    assert values["auroc"] == pytest.approx((6 + 4.5) / 12)
    assert values["average_precision"] == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 4)
    assert values["brier"] == pytest.approx(np.mean((P - LABELS) ** 2))


def test_three_classes_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    decision = np.array([0, 0, 0, 1, 1, 1, 2, 0])
    p = np.full((8, 3), 0.1)
    p[np.arange(8), decision] = 0.8
    values = values_of(Rows.checked(labels, p, decision))
    recalls, specificities = [0.75, 1.0, 0.5], [3 / 4, 5 / 6, 1.0]
    assert values["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert values["g_mean_product"] == pytest.approx(np.prod(recalls) ** (1 / 3))
    assert values["g_mean_macro"] == pytest.approx(np.sqrt(np.mean(recalls) * np.mean(specificities)))
    assert values["macro_f1"] == pytest.approx(np.mean([0.75, 0.8, 2 / 3]))
    assert values["log_loss"] == pytest.approx(-(6 * np.log(0.8) + 2 * np.log(0.1)) / 8)
    # One minority row at 0.8, one of seven rows at 0.1.
    assert values["minority_average_precision"] == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 8)


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("fractional", [False, True])
def test_every_metric_is_that_of_the_libraries_in_every_replicate(n_classes, decimals, fractional):
    rows = made_up(COUNTS_OF[n_classes], seed=n_classes, decimals=decimals)
    groups = np.arange(len(rows.labels)) // 3
    (weights,) = replicate_weights(rows.labels, groups, n_replicates=12, seed=3)
    weights[0] = 1.0  # the rows as they are
    if fractional:
        weights = weights * np.random.default_rng(0).uniform(0.5, 2.0, weights.shape)
    sums = WeightedRows(rows)(np.ascontiguousarray(weights.T))
    fast = {name: metric.compute(sums) for name, metric in metrics_for(n_classes).items()}
    for b, of_replicate in enumerate(weights):
        slow = slow_metrics(rows, of_replicate)
        np.testing.assert_allclose(sums.recalls[:, b], slow.pop("recalls"), atol=1e-12)
        assert fast.keys() == slow.keys()
        for name, value in slow.items():
            assert fast[name][b] == pytest.approx(value, abs=1e-10), name


def test_g_means_are_those_of_imbalanced_learn():
    """Of the rows as they are; with sample weights its specificities count rows and not weights."""
    two, four = (made_up(COUNTS_OF[n_classes]) for n_classes in (2, 4))
    values = values_of(two)
    assert values["g_mean"] == pytest.approx(geometric_mean_score(two.labels, two.decision))
    # The macro form averages the same two numbers in both places.
    macro = geometric_mean_score(two.labels, two.decision, average="macro")
    assert values["balanced_accuracy"] == pytest.approx(macro)
    values = values_of(four)
    for name, average in (("g_mean_product", "multiclass"), ("g_mean_macro", "macro")):
        expected = geometric_mean_score(four.labels, four.decision, average=average)
        assert values[name] == pytest.approx(expected)


def test_nothing_flagged_gives_zero_f1_without_warning():
    assert values_of(two_classes(LABELS, P, 0.99))["f1"] == 0.0


def test_the_product_g_mean_is_zero_when_a_class_is_never_found():
    values = values_of(Rows.checked(np.array([0, 1, 2]), np.full((3, 3), 1 / 3), np.array([0, 1, 1])))
    assert values["g_mean_product"] == 0.0
    assert values["g_mean_macro"] > 0.0


def test_raw_scores_rank_as_probabilities_do():
    rows = made_up(COUNTS_OF[2])
    logits = np.log(rows.p[:, 1] / rows.p[:, 0])
    values = values_of(rows)
    assert ranking_figures(rows.labels == 1, logits) == pytest.approx(
        {name: values[name] for name in ("auroc", "average_precision")}
    )
    rows = made_up(COUNTS_OF[4])
    assert macro_auroc(rows.labels, rows.p) == pytest.approx(values_of(rows)["macro_auroc"])


def test_recall_of_a_class_without_rows_is_zero():
    np.testing.assert_array_equal(class_recalls(np.array([0, 0]), np.array([0, 1]), 3), [0.5, 0.0, 0.0])


# ---- calibration error


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 200), st.integers(0, 10_000), st.integers(2, 50))
def test_ece_equals_a_loop_over_bins(n, seed, levels):
    rng = np.random.default_rng(seed)
    p = rng.integers(0, levels, n) / levels
    labels = np.r_[0, 1, rng.integers(0, 2, n - 2)]
    slow = slow_ece(p, labels, np.ones(n))
    assert values_of(two_classes(labels, p, 0.5))["ece"] == pytest.approx(slow)


def test_ece_bins_have_equal_mass_and_keep_ties_together():
    p = np.random.default_rng(0).permutation(np.linspace(0, 1, 600))
    bins, n_bins = ece_bin_of_row(p)
    assert n_bins == 15
    assert set(np.bincount(bins)) == {40}
    assert ece_bin_of_row(np.full(45, 0.3))[0].tolist() == [0] * 45
    assert ece_bin_of_row(np.linspace(0, 1, 45))[1] == 2


def test_ece_is_zero_for_calibrated_and_large_for_overconfident():
    labels = np.tile([0, 0, 0, 1], 100)
    for p, expected in ((0.25, 0.0), (0.95, 0.7)):
        assert values_of(two_classes(labels, np.full(400, p), 0.5))["ece"] == pytest.approx(expected)


# ---- the registry


def test_metrics_name_themselves():
    orders = [metric.order for metric in METRICS.values()]
    assert orders == sorted(set(orders))
    for name, metric in METRICS.items():
        assert metric.name == name
        assert len(metric.short) <= 12, name
        assert metric.explanation.endswith("."), name
        assert metric.explanation[0].isupper(), name
    assert METRICS["brier"].title_with_direction == "Brier score (lower is better)"
    assert METRICS["auroc"].title_with_direction == "AUROC"
    for n_classes in (2, 3, 10):
        assert default_metric(n_classes) in metrics_for(n_classes)
    assert metrics_for(2).keys() & metrics_for(3).keys() == {"balanced_accuracy", "brier", "ece"}


USE_TOY = """\
import numpy as np
from evaluation.comparison import Predictions, compare
from reporting.markdown import markdown_page
labels = np.array([0, 0, 0, 0, 1, 1])
p = np.stack([np.linspace(0.9, 0.1, 6), np.linspace(0.1, 0.9, 6)], axis=1)
models = {"a": Predictions("baseline", p, np.array([0, 0, 0, 1, 1, 1]))}
rows = compare(labels, np.arange(6), [models], "a", ("fine", "odd"), n_replicates=20)
more = {"verdict": None, "adjusted_p": None, "train_seconds": None, "score_ms": None}
document = {"dataset": "d", "recipe": "r", "metric": "worst_recall", "left_out": {}, "rows": [rows[0] | more]}
print(markdown_page(document, "c", "f"))
"""


def test_a_metric_is_one_file(tmp_path):
    """Added as CONTRIBUTING says to a copy of the rooms, it stands in a table between its neighbours."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Add a metric")[1]
    toy = section.split("```python\n")[1].split("```")[0]
    for room in ("contracts", "evaluation", "reporting"):
        copytree(ROOT / room, tmp_path / room)
    (tmp_path / "evaluation" / "metrics" / "worst_recall.py").write_text(toy)
    done = subprocess.run(
        [sys.executable, "-c", USE_TOY], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "| average precision | balanced accuracy | worst class recall | recall |" in done.stdout
    assert "## Worst class recall against the calibrated baseline" in done.stdout
    assert "| a | 0.750 |" in done.stdout


# ---- refusals


@pytest.mark.parametrize(
    ("labels", "p", "decision", "words"),
    [
        ([0, 0], [[0.9, 0.1], [0.8, 0.2]], [0, 0], "class 1 of 2 has no rows. Hold out rows of each class"),
        ([0, 1], [[0.9, 0.1], [np.nan, 0.2]], [0, 0], "NaN, outside 0 to 1 or do not sum to 1"),
        ([0, 1], [[0.9, 0.1], [-0.2, 1.2]], [0, 0], "NaN, outside 0 to 1 or do not sum to 1"),
        ([0, 1], [[0.9, 0.1], [0.2, 0.2]], [0, 0], "Give probabilities, not logits"),
        ([0, 2], [[0.9, 0.1], [0.8, 0.2]], [0, 0], "label 2, but probabilities of 2 classes"),
        ([0, 1, 1], [[0.9, 0.1], [0.8, 0.2]], [0, 0], r"3 labels, 2 decisions, probabilities \(2, 2\)"),
        ([0, 1], [0.1, 0.2], [0, 0], r"Give \[N\] labels"),
    ],
)
def test_refusals_say_what_is_wrong(labels, p, decision, words):
    with pytest.raises(DataError, match=words):
        Rows.checked(np.array(labels), np.array(p), np.array(decision))
