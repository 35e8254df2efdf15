"""The report's sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reporting.wording import (
    capitalised,
    confusion_matrix,
    counted,
    headline,
    interval,
    listed,
    probability,
)
from tests.reporting.made_up import report_of


def test_two_classes_are_told_by_hits_and_false_alarms():
    report = report_of(2)
    found, sentences = headline(report)
    assert found.startswith("1 of 2 shown better than the calibrated baseline in average precision: ens")
    words = " ".join(sentences)
    assert "finds images of “odd” better than the calibrated baseline, in average precision?" in words
    assert "trained on 1,000 images, 200 of them “odd” (1 to 4); measured on 100 test images, 20" in words
    (right, alarms), (_, hits) = confusion_matrix(report, report.final)
    told = (
        f"finds {hits} of 20 images of “odd” and raises {alarms} false alarms among {right + alarms} others"
    )
    assert told in words
    assert "corrected by Holm for 2 comparisons, at a level of 5%." in words
    assert "repeats of the training" not in words


def test_more_classes_are_told_by_what_is_classified_correctly():
    report = report_of(3)
    found, sentences = headline(report)
    assert "in balanced accuracy" in found
    words = " ".join(sentences)
    counts = confusion_matrix(report, report.final)
    assert "tells the 3 classes apart better than the calibrated baseline, in balanced accuracy?" in words
    assert "from 600 of “fine” to 110 of “odd” (1 to 5.45)" in words
    assert f"classifies {np.trace(counts)} of 101 images correctly." in words
    assert f"It finds {counts[2, 2]} of 11 images of “odd” and takes {counts[:2, 2].sum()} others" in words


@pytest.mark.parametrize("n_classes", [2, 3])
def test_what_is_worse_and_what_is_a_mean_is_said(n_classes):
    report = report_of(n_classes)
    rows = [row | {"verdict": row["verdict"] and "worse"} for row in report.comparison["rows"]]
    found, sentences = headline(replace(report, comparison={**report.comparison, "rows": rows, "repeats": 3}))
    assert found.startswith("None of 2 was shown better")
    assert "Shown worse than the baseline: ensemble and cnn." in sentences
    assert sentences[-1].startswith("Figures in the comparison tables")
    assert "means over 3 repeats of the training" in sentences[-1]


def test_nothing_compared():
    report = report_of(2)
    rows = report.comparison["rows"][:1]
    found, _ = headline(replace(report, comparison={**report.comparison, "rows": rows}))
    assert found == "Nothing was compared with the calibrated baseline: the recipe holds no other technique."


def test_numbers():
    assert interval([0.91, 0.95]) == "0.910–0.950"
    assert interval([-0.01, 0.02], "+.3f") == "-0.010 to +0.020"
    assert [probability(p) for p in (0.0, 1e-6, 0.5, 1 - 1e-6, 1.0)] == [
        "0.0000",
        "< 0.0001",
        "0.5000",
        "> 0.9999",
        "1.0000",
    ]


def test_words():
    assert [listed(words) for words in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert [counted(count, "row") for count in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert capitalised("ROC of x") == "ROC of x"
    assert capitalised("") == ""
