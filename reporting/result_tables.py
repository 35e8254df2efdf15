"""The table of results as a terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from contracts.text import printable
from evaluation.metric import Metric
from evaluation.metrics import METRICS
from reporting.content import KIND_COLUMNS, Figures, KindTables
from reporting.in_use.tables import (
    IN_USE,
    TRIAGE,
    TRIAGE_COLUMNS,
    in_use_columns,
    in_use_rows,
    in_use_sentence,
    triage_rows,
    triage_sentences,
)
from reporting.terminal import console, note
from reporting.wording import (
    STABILITY,
    STABILITY_COLUMNS,
    best_first,
    stability_rows,
    stability_sentence,
    where_measured,
)

# Characters: of the first column at least, of what it needs beyond the longest name, and of a metric.
_NAME_WIDTH, _NAME_MARGIN, _CELL_WIDTH = 18, 5, 14
_FEWEST_METRICS = 3


def print_results(document: dict[str, Any], sentences: Sequence[str]) -> None:
    """Print values with intervals, then differences from the baseline, as wide as the terminal allows.

    Args:
        document: of ``metrics.json``: ``dataset``, and ``rows`` as of :func:`evaluation.comparison.compare`.
        sentences: printed below.
    """
    rows = document["rows"]
    if not rows:
        # Without a labelled minority image there is nothing to measure.
        print_stability(document)
        for sentence in sentences:
            note(sentence)
        return
    print_values(f"{document['dataset']}: {where_measured(document)}, with 95 % intervals", rows)
    shown = metrics_that_fit(rows)
    table = _table_of("Paired difference from the calibrated baseline, with 95 % intervals", shown)
    for row in rows:
        if row["kind"] != "baseline":
            cells = [_cell(row["minus_baseline"][metric.name], "{:+.3f}") for metric in shown]
            table.add_row(row["name"], *cells, style=_style(row))
    console.print(table)
    print_class_recalls(rows)
    print_kinds(document)
    print_in_use(document)
    print_stability(document)
    for sentence in sentences:
        note(sentence)


def print_verdicts(document: dict[str, Any]) -> None:
    """Print a comparison, best first: values with intervals, then what is shown against the baseline.

    Args:
        document: of ``comparison.json``.
    """
    metric, rows = METRICS[document["metric"]], best_first(document)
    where = where_measured(document)
    print_values(f"{document['dataset']}: {where}, with 95 % intervals", rows, first=metric.name)
    table = Table(title=f"{document['dataset']}: {metric.title}, {where}, against the baseline")
    table.add_column("technique", no_wrap=True)
    for heading in ("value", "difference", "verdict", "seconds", "ms/image"):
        table.add_column(heading, justify="left" if heading == "verdict" else "right")
    for row in rows:
        estimate, low, high = row["minus_baseline"][metric.name]
        table.add_row(
            row["name"],
            f"{row[metric.name]:.3f}",
            "" if row["verdict"] is None else f"{estimate:+.3f} ({low:+.3f} to {high:+.3f})",
            row["verdict"] or "the baseline",
            "" if row["train_seconds"] is None else f"{row['train_seconds']:.1f}",
            "" if row["score_ms"] is None else f"{row['score_ms']:.2f}",
            style={"better": "green", "worse": "red"}.get(row["verdict"] or ""),
        )
    console.print(table)
    print_kinds(document)


def print_values(title: str, rows: list[dict[str, Any]], first: str | None = None) -> None:
    """Print the metrics of the table's rows, each above its interval.

    Args:
        title: of the table.
        rows: as of :func:`evaluation.comparison.compare`.
        first: name of the metric that stands first; narrow terminals show the first ones only.
    """
    shown = metrics_that_fit(rows, first)
    table = _table_of(title, shown)
    for row in rows:
        cells = [_cell([row[metric.name], *row["intervals"][metric.name]], "{:.3f}") for metric in shown]
        table.add_row(row["name"], *cells, style=_style(row))
    console.print(table)


def metrics_that_fit(rows: list[dict[str, Any]], first: str | None = None) -> list[Metric]:
    """Metrics that the rows have, in their order, as many as the terminal is wide enough for."""
    width = max(_NAME_WIDTH, *(len(row["name"]) + _NAME_MARGIN for row in rows))
    n_shown = max(_FEWEST_METRICS, (console.width - width) // _CELL_WIDTH)
    known = [metric for name, metric in METRICS.items() if name in rows[0]["intervals"]]
    # Sorting is stable, so this moves one metric to the front and leaves the others in order.
    return sorted(known, key=lambda metric: metric.name != first)[:n_shown]


def print_class_recalls(rows: list[dict[str, Any]]) -> None:
    """Print each class's recall, of the baseline and of the ensemble, and their difference.

    Nothing is printed where rows have no class recalls (two classes), or where one of the two is missing.
    """
    shown = {row["kind"]: row for row in rows if row["kind"] in {"baseline", "ensemble"}}
    if set(shown) != {"baseline", "ensemble"} or "per_class_recall" not in shown["ensemble"]:
        return
    table = Table(title="Recall of each class, with 95 % intervals", padding=(0, 1))
    table.add_column("class", no_wrap=True)
    for heading in ("calibrated baseline", "ensemble", "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in shown["baseline"]["per_class_recall"]:
        table.add_row(
            escape(printable(name)),
            *(
                _plain_cell(shown[kind]["per_class_recall"][name], "{:.3f}")
                for kind in ("baseline", "ensemble")
            ),
            _plain_cell(shown["ensemble"]["per_class_recall_minus_baseline"][name], "{:+.3f}"),
        )
    console.print(table)


def print_kinds(document: Mapping[str, Any]) -> None:
    """Print both tables, each value above its interval; nothing where there are no kinds."""
    found = KindTables.of(document)
    if found is None:
        return
    if found.never_seen:
        table = Table(title=f"{found.heading_never_seen}, with 95 % intervals", padding=(0, 1))
        table.add_column("name", no_wrap=True)
        for heading in found.headings:
            table.add_column(heading, justify="right", no_wrap=True)
        for name, figures in found.never_seen.items():
            style = "bold" if name == "ensemble" else None
            table.add_row(escape(printable(name)), *(_known(each) for each in figures), style=style)
        console.print(table)
    table = Table(title=f"{found.heading_by_kind}, with 95 % intervals", padding=(0, 1))
    table.add_column("kind", no_wrap=True)
    for heading in KIND_COLUMNS:
        table.add_column(heading.replace(", ", ",\n"), justify="right")
    for kind, (_, recalls) in found.by_kind.items():
        table.add_row(escape(printable(kind)), *(_known(each) for each in recalls))
    console.print(table)
    if found.sentence:
        note(found.sentence)


def print_in_use(document: Mapping[str, Any]) -> None:
    """Print figures at the expected share, and what triage does with the judged images."""
    in_use, triage, minority = document["in_use"], document["triage"], document["minority"]
    _print_cells(IN_USE, in_use_columns(in_use), in_use_rows(in_use))
    note(in_use_sentence(in_use, minority))
    _print_cells(f"{TRIAGE}: {where_measured(document)}", TRIAGE_COLUMNS, triage_rows(triage, minority))
    for sentence in triage_sentences(triage, minority):
        note(sentence)


def _print_cells(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Cells as they are; the first column names the row, and an interval stands below its value."""
    table = Table(title=title, padding=(0, 1))
    for number, heading in enumerate(headings):
        table.add_column(heading.replace(" per ", "\nper "), justify="right" if number else "left")
    for cells in rows:
        table.add_row(*(escape(printable(cell).replace(" (", "\n(")) for cell in cells))
    console.print(table)


def print_stability(document: Mapping[str, Any]) -> None:
    """Print how much the ensemble's answers change under changes of images that no eye sees."""
    stability = document["stability"]
    table = Table(title=STABILITY, padding=(0, 1))
    for heading in STABILITY_COLUMNS:
        table.add_column(heading, justify="left" if heading == STABILITY_COLUMNS[0] else "right")
    for cells in stability_rows(stability):
        table.add_row(*cells)
    console.print(table)
    note(stability_sentence(stability))


def _table_of(title: str, shown: list[Metric]) -> Table:
    table = Table(title=title, padding=(0, 1))
    table.add_column("name", no_wrap=True)
    for metric in shown:
        table.add_column(metric.short, justify="right", no_wrap=True)
    return table


def _style(row: dict[str, Any]) -> str | None:
    return "bold" if row["kind"] == "ensemble" else None


def _cell(figures: Sequence[float], form: str) -> str:
    """A value above its interval, ``.991 .998`` without leading zeros: so five columns fit 80 characters."""
    value, *bounds = (form.format(figure) for figure in figures)
    return f"{value}\n{' '.join(bound.replace('0.', '.', 1) for bound in bounds)}"


def _plain_cell(figures: Sequence[float], form: str) -> str:
    """A value above its interval; there is room for leading zeros."""
    value, *bounds = (form.format(figure) for figure in figures)
    return f"{value}\n{' '.join(bounds)}"


def _known(figures: Figures | None) -> str:
    """As :func:`_plain_cell`; a dash for what was not measured."""
    return "–" if figures is None else _plain_cell(figures, "{:.3f}")
