"""A comparison as a page of Markdown."""

from __future__ import annotations

import pytest

from evaluation.metrics import METRICS, metrics_for
from reporting.markdown import markdown_page
from tests.reporting.made_up import comparison_of, stability


def tables_of(page: str) -> list[list[list[str]]]:
    """Tables as lines of cells."""
    blocks = [block for block in page.split("\n\n") if block.startswith("|")]
    return [[line[2:-2].split(" | ") for line in block.splitlines()] for block in blocks]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_every_metric_is_a_column_in_its_order(n_classes):
    document = comparison_of(n_classes)
    values, verdicts = tables_of(markdown_page(document, "python cli.py compare set", "A footnote."))
    metrics = metrics_for(n_classes)
    assert values[0] == ["technique", *(metric.title for metric in metrics.values())]
    of_ensemble = next(row for row in document["rows"] if row["name"] == "ensemble")
    low, high = of_ensemble["intervals"]["brier"]
    place = 1 + list(metrics).index("brier")
    assert values[2][0] == "ensemble"  # the best
    assert values[2][place] == f"{of_ensemble['brier']:.3f} ({low:.3f} to {high:.3f})"
    estimate, low, high = of_ensemble["minus_baseline"][document["metric"]]
    assert verdicts[2][2] == f"{estimate:+.3f} ({low:+.3f} to {high:+.3f})"
    assert [line[4] for line in verdicts[2:]].count("the baseline") == 1
    assert all(len(line) == len(table[0]) for table in (values, verdicts) for line in table)


def test_says_how_it_was_made_and_what_is_left_out():
    document = comparison_of(2) | {"worth_of_oneclass": {"sentence": "They help."}}
    page = markdown_page(document, "python cli.py compare set", "A footnote.")
    assert page.startswith("# set, recipe few\n\nMade by `python cli.py compare set`.\n")
    assert "## Average precision against the calibrated baseline" in page
    assert page.endswith("A footnote.\n\nThey help.\n\n- deep_svdd is left out: its scores collapsed.\n")


def test_rows_are_best_first_where_lower_is_better():
    document = comparison_of(2) | {"metric": "brier"}
    names = [line[0] for line in tables_of(markdown_page(document, "c", "f"))[1][2:]]
    values = {row["name"]: row["brier"] for row in document["rows"]}
    assert not METRICS["brier"].higher_is_better
    assert [values[name] for name in names] == sorted(values.values())


def test_the_ensembles_stability_is_a_table():
    page = markdown_page(comparison_of(2) | {"stability": stability()}, "c", "f")
    assert tables_of(page)[2][2] == ["a little noise", "7", "0.247", "0.0097"]
    assert "on 64 test images." in page
