"""A comparison as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.metrics import METRICS
from reporting.wording import best_first, capitalised


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
        footnote,
        *([worth["sentence"]] if worth else []),
        *(["\n".join(left_out)] if left_out else []),
    ]
    return "\n\n".join(parts) + "\n"


def _difference(figures: Sequence[float]) -> str:
    return f"{figures[0]:+.3f} ({_range(figures[1:], '+.3f')})"


def _range(bounds: Sequence[float], form: str) -> str:
    return f"{bounds[0]:{form}} to {bounds[1]:{form}}"


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
