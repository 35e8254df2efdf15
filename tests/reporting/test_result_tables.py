"""The results table in a terminal: what fits, in which order, for two classes and more."""

from __future__ import annotations

import re

import pytest

from evaluation.metrics import METRICS, metrics_for
from reporting import result_tables
from reporting.terminal import console
from tests.reporting.made_up import class_names, comparison_of, in_use, stability


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setattr(console, "width", 200)


def printed(capsys, call, *arguments) -> str:
    call(*arguments)
    return capsys.readouterr().err


@pytest.mark.parametrize(("width", "expected"), [(40, 3), (80, 4), (100, 5), (300, 99)])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_as_many_metrics_as_fit_the_first_ones_first(monkeypatch, width, expected, n_classes):
    monkeypatch.setattr(console, "width", width)
    names = [metric.name for metric in result_tables.metrics_that_fit(comparison_of(n_classes)["rows"])]
    assert names == list(metrics_for(n_classes))[:expected]


def test_the_metric_of_the_verdicts_stands_first(monkeypatch):
    monkeypatch.setattr(console, "width", 80)
    shown = result_tables.metrics_that_fit(comparison_of(2)["rows"], first="hter")
    assert [metric.name for metric in shown] == ["hter", "auroc", "average_precision", "balanced_accuracy"]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_every_metric_is_printed_with_its_interval_and_its_difference(capsys, wide, n_classes):
    document = comparison_of(n_classes) | {"stability": stability()} | in_use()
    text = printed(capsys, result_tables.print_results, document, ["A sentence."])
    ensemble = document["rows"][-1]
    for name in metrics_for(n_classes):
        assert METRICS[name].short in text
        low, high = ensemble["intervals"][name]
        assert f"{low:.3f} {high:.3f}".replace("0.", ".") in text
        assert f"{ensemble['minus_baseline'][name][0]:+.3f}" in text
    assert "A sentence." in text
    assert re.search(r"a little noise +│ +7 │ +0.247 │ +0.0097", text)
    assert "on 64 test images" in text
    assert ("Recall of each class" in text) == (n_classes > 2)


def test_class_recalls_stand_beside_those_of_the_baseline(capsys, wide):
    document = comparison_of(3)
    text = printed(capsys, result_tables.print_class_recalls, document["rows"])
    baseline, _, ensemble = document["rows"]
    for name in class_names(3):
        line = next(line for line in text.splitlines() if name in line)
        change = ensemble["per_class_recall_minus_baseline"][name][0]
        figures = [baseline["per_class_recall"][name][0], ensemble["per_class_recall"][name][0]]
        assert [f"{figure:.3f}" for figure in figures] + [f"{change:+.3f}"] == [
            cell.strip() for cell in line.strip(" │").split("│")
        ][1:]
    assert printed(capsys, result_tables.print_class_recalls, document["rows"][:1]) == ""


def test_verdicts_are_printed_best_first(capsys, wide):
    text = printed(capsys, result_tables.print_verdicts, comparison_of(2))
    table = text[text.index("average precision, test set") :]
    lines = [line for line in table.splitlines() if line.startswith("│")]
    assert "ensemble" in lines[0]
    assert "better" in lines[0]
    assert sum("the baseline" in line for line in lines) == 1
    (cnn,) = (line for line in lines if "cnn" in line)
    assert "no difference shown" in cnn
    assert "1.2" in cnn


def test_triage_and_figures_in_use_are_printed(capsys, wide):
    document = comparison_of(2) | in_use()
    text = " ".join(printed(capsys, result_tables.print_in_use, document).split())
    assert "At the share you expect" in text
    assert "cost" in text
    assert "Where 0.01 of the images are “odd”, 47.6 of 1,000 images are decided so, 17 % of them" in text
    assert "This share is an example: 'ensemble --prior'" in text
    counts = document["triage"]["counts"]["minority"]
    assert all(str(counts[name]) in text for name in ("PASS", "FAIL", "REVIEW", "NOVEL"))
    assert "(asked: at most 0.05)" in text
    document["in_use"]["stated"] = True
    document["in_use"]["figures"] = document["in_use"]["figures"][:1]
    assert "example" not in printed(capsys, result_tables.print_in_use, document)
