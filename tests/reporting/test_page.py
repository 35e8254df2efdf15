"""The report's page, from content that no run was needed for."""

from __future__ import annotations

import re

import pytest

from evaluation.metrics import METRICS, metrics_for
from reporting import page
from reporting.wording import confusion_matrix
from tests.pages import Page
from tests.reporting.made_up import class_names, report_of


@pytest.fixture(scope="module", params=[2, 3])
def rendered(request) -> tuple[int, Page]:
    return request.param, Page(page.render(report_of(request.param)))


def test_every_metric_has_a_column_an_arrow_and_an_explanation(rendered):
    n_classes, shown = rendered
    metrics = metrics_for(n_classes).values()
    arrows = {True: "▲", False: "▼"}
    headings = [f"{metric.title} {arrows[metric.higher_is_better]}" for metric in metrics]
    assert " ".join(headings) in shown.text
    for metric in metrics:
        assert metric.explanation in shown.text
    others = [m for name, m in METRICS.items() if name not in metrics_for(n_classes)]
    assert not [metric.name for metric in others if metric.explanation in shown.text]


def test_every_value_stands_with_its_interval(rendered):
    n_classes, shown = rendered
    for row in report_of(n_classes).comparison["rows"]:
        for name, (low, high) in row["intervals"].items():
            assert f"{row[name]:.3f} {low:.3f}–{high:.3f}" in shown.text


def test_the_confusion_matrix_adds_up(rendered):
    n_classes, shown = rendered
    report = report_of(n_classes)
    start = shown.text.rindex("truth \\ decision")
    counts = [int(count) for count in re.findall(r"(\d+) (?:[a-z ]+, )?\d+\.\d %", shown.text[start:])]
    expected = confusion_matrix(report, report.final)
    if n_classes == 2:  # the minority comes first
        expected = expected[::-1, ::-1]
        assert f"{expected[0, 0]} found, " in shown.text[start:]
        assert f"{expected[1, 0]} false alarms, " in shown.text[start:]
    assert counts[: n_classes**2] == expected.ravel().tolist()


def test_what_only_two_classes_or_only_more_have(rendered):
    n_classes, shown = rendered
    two = n_classes == 2
    assert ("Cost curve" in shown.text) == ("Decision curve" in shown.text) == two
    assert ("Recall of each class" in shown.text) == (not two)
    assert ("Cost and decision curves weigh one kind of error against one other" in shown.text) == (not two)
    assert ("threshold 0.5" in shown.text) == two
    figures = [a["alt"] for tag, a in shown.tags if tag == "img"]
    # Differences; PR, ROC, reliability, cost, decision or PR of each class, reliability; two histograms.
    assert len(figures) == 1 + (5 if two else n_classes + 1) + 2
    curves = [alt for alt in figures if alt.startswith("Precision over recall of")]
    names = ["odd"] if two else class_names(n_classes)[::-1]  # the rarest first
    assert [re.search("“(.*)”", alt)[1] for alt in curves] == list(names)


def test_many_classes_get_their_commonest_confusions(monkeypatch):
    monkeypatch.setattr(page, "MOST_COLUMNS", 2)
    monkeypatch.setattr("reporting.page_figures.MOST_CURVES", 2)
    shown = Page(page.render(report_of(3)))
    assert "truth \\ decision" not in shown.text
    assert "most often taken for" in shown.text
    assert "The 2 rarest of 3 classes are shown." in shown.text
    assert len([a for tag, a in shown.tags if tag == "img" and "against the rest" in a["alt"]]) == 2
