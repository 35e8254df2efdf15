"""The table of results as a terminal shows it."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from contracts.text import printable
from reporting.terminal import console, note

# Metric → heading; the order of importance, as narrow terminals show the first ones only.
SHOWN = {
    "acsa": "ACSA",
    "g_mean_product": "G-mean prod.",
    "macro_f1": "macro F1",
    "macro_auroc": "macro AUROC",
    "macro_average_precision": "m. av. prec.",
    "g_mean_macro": "G-mean macro",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "brier": "Brier",
    "ece": "ECE",
}


def print_class_recalls(rows: list[dict[str, Any]]) -> None:
    """Print each class's recall, of the baseline and of the ensemble, and their difference."""
    shown = {row["kind"]: row for row in rows if row["kind"] in {"baseline", "ensemble"}}
    if set(shown) != {"baseline", "ensemble"}:
        return
    table = Table(title="Recall of each class, with 95 % intervals", padding=(0, 1))
    table.add_column("class", no_wrap=True)
    for heading in ("calibrated baseline", "ensemble", "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in shown["baseline"]["per_class_recall"]:
        cells = [shown[kind]["per_class_recall"][name] for kind in ("baseline", "ensemble")]
        difference = shown["ensemble"]["per_class_recall_minus_baseline"][name]
        table.add_row(
            escape(printable(name)),
            *(f"{value:.3f}\n{low:.3f} {high:.3f}" for value, low, high in cells),
            f"{difference[0]:+.3f}\n{difference[1]:+.3f} {difference[2]:+.3f}",
        )
    console.print(table)


# Metric → heading; the order of importance, as narrow terminals show the first ones only.
_SHOWN = {
    "auroc": "AUROC",
    "average_precision": "av. prec.",
    "balanced_accuracy": "bal. acc.",
    "recall": "recall",
    "brier": "Brier",
    "f1": "F1",
    "g_mean": "G-mean",
    "ece": "ECE",
    "hter": "HTER",
}


_NAME_WIDTH, _NAME_MARGIN, _CELL_WIDTH, _LEAST_SHOWN = 18, 5, 14, 3


def print_results(document: dict[str, Any], sentences: Any) -> None:
    """Print values with intervals, then differences from the baseline, as wide as the terminal allows."""
    print_values(f"{document['dataset']}: test rows, with 95 % intervals", document["rows"])
    shown = _shown_metrics(document["rows"])
    differences = _metrics_table("Paired difference from the calibrated baseline, with 95 % intervals", shown)
    several_classes = "acsa" in document["rows"][0]
    for row in document["rows"]:
        if row["kind"] != "baseline":
            compared = {m: row["minus_baseline"][m] for m in shown}
            cells = [f"{d[0]:+.3f}\n{_interval(d[1:], '{:+.3f}')}" for d in compared.values()]
            differences.add_row(row["name"], *cells, style=_style(row))
    console.print(differences)
    if several_classes:
        print_class_recalls(document["rows"])
    for sentence in sentences:
        note(sentence)


def print_values(title: str, rows: list[dict[str, Any]], first: str | None = None) -> None:
    """Print the metrics of the table's rows, each above its interval.

    Args:
        title: of the table.
        rows: as of :func:`workflow.ensembling.measuring.measure`.
        first: the metric that stands first; narrow terminals show the first ones only.
    """
    shown = _shown_metrics(rows, first)
    values = _metrics_table(title, shown)
    for row in rows:
        cells = [f"{row[m]:.3f}\n{_interval(row['intervals'][m], '{:.3f}')}" for m in shown]
        values.add_row(row["name"], *cells, style=_style(row))
    console.print(values)


def _shown_metrics(rows: list[dict[str, Any]], first: str | None = None) -> dict[str, str]:
    """Metric → heading, as many as fit; those that the rows have."""
    width = max(_NAME_WIDTH, *(len(row["name"]) + _NAME_MARGIN for row in rows))
    n_shown = max(_LEAST_SHOWN, (console.width - width) // _CELL_WIDTH)
    headings = SHOWN if "acsa" in rows[0] else _SHOWN
    order = sorted(headings, key=lambda metric: metric != first)
    known = [metric for metric in order if metric in rows[0]["intervals"]]
    return {metric: headings[metric] for metric in known[:n_shown]}


def _metrics_table(title: str, shown: dict[str, str]) -> Table:
    table = Table(title=title, padding=(0, 1))
    table.add_column("name", no_wrap=True)
    for heading in shown.values():
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _style(row: dict[str, Any]) -> str | None:
    return "bold" if row["kind"] == "ensemble" else None


def _interval(bounds: list[float], form: str) -> str:
    """``.991-.998``; the leading zero is left out so that five columns fit 80 characters."""
    low, high = (form.format(bound).replace("0.", ".", 1) for bound in bounds)
    return f"{low} {high}"
