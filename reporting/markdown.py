"""A comparison as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contracts.text import printable
from evaluation.metrics import METRICS
from reporting.content import KIND_COLUMNS, Figures, KindTables
from reporting.wording import (
    STABILITY,
    STABILITY_COLUMNS,
    best_first,
    capitalised,
    stability_rows,
    stability_sentence,
)


def markdown_page(document: dict[str, Any], command: str, footnote: str) -> str:
    """All metrics with intervals, then the verdicts, with the command line that makes them.

    Args:
        document: of ``comparison.json``.
        command: command line.
        footnote: how to read the figures.
    """
    rows = best_first(document)
    metric = METRICS[document["metric"]]
    shown = [each for name, each in METRICS.items() if name in rows[0]["intervals"]]
    values = [
        [
            row["name"],
            *(f"{row[m.name]:.3f} ({_range(row['intervals'][m.name], '.3f')})" for m in shown),
        ]
        for row in rows
    ]
    verdicts = [
        [
            row["name"],
            f"{row[metric.name]:.3f}",
            "" if row["verdict"] is None else _difference(row["minus_baseline"][metric.name]),
            "" if row["verdict"] is None else f"{row['adjusted_p']:.3g}",
            row["verdict"] or "the baseline",
            "" if row["train_seconds"] is None else f"{row['train_seconds']:.1f}",
            "" if row["score_ms"] is None else f"{row['score_ms']:.2f}",
        ]
        for row in rows
    ]
    left_out = [f"- {member} is left out: {reason}" for member, reason in document["left_out"].items()]
    worth = document.get("worth_of_oneclass")
    parts = [
        f"# {document['dataset']}, recipe {document['recipe']}",
        f"Made by `{command}`.",
        "## Test set, with 95 % intervals",
        _table(["technique", *(each.title for each in shown)], values),
        f"## {capitalised(metric.title)} against the calibrated baseline",
        _table(
            ["technique", "value", "difference", "adjusted p", "verdict", "seconds", "ms/image"], verdicts
        ),
        *_of_kinds(document),
        *_of_stability(document),
        footnote,
        *([worth["sentence"]] if worth else []),
        *(["\n".join(left_out)] if left_out else []),
    ]
    return "\n\n".join(parts) + "\n"


def _difference(figures: Sequence[float]) -> str:
    return f"{figures[0]:+.3f} ({_range(figures[1:], '+.3f')})"


def _range(bounds: Sequence[float], form: str) -> str:
    return f"{bounds[0]:{form}} to {bounds[1]:{form}}"


def _of_kinds(document: dict[str, Any]) -> list[str]:
    """Both tables as paragraphs of Markdown; none where there are no kinds."""
    found = KindTables.of(document)
    if found is None:
        return []
    parts = []
    if found.never_seen:
        rows = [[name, *(_known(each) for each in figures)] for name, figures in found.never_seen.items()]
        parts += [f"## {found.heading_never_seen}", _table(["technique", *found.headings], rows)]
    rows = [
        [_safe(kind), str(count), *(_known(each) for each in recalls)]
        for kind, (count, recalls) in found.by_kind.items()
    ]
    parts += [f"## {found.heading_by_kind}", _table(["kind", "training images", *KIND_COLUMNS], rows)]
    return [*parts, *([_safe(found.sentence)] if found.sentence else [])]


def _of_stability(document: Mapping[str, Any]) -> list[str]:
    """The ensemble's stability as paragraphs of Markdown; none where it is not known."""
    stability = document.get("stability")
    if not stability:
        return []
    return [
        f"## {STABILITY}",
        stability_sentence(stability),
        _table(STABILITY_COLUMNS, [list(cells) for cells in stability_rows(stability)]),
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column stands left and all others right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _safe(text: str) -> str:
    """Names of kinds come from folders and lists; a bar would end a cell."""
    return printable(text).replace("|", "\\|")


def _known(figures: Figures | None) -> str:
    return "–" if figures is None else f"{figures[0]:.3f} ({_range(figures[1:], '.3f')})"
