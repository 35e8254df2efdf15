"""A comparison of two files as tables and sentences on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from contracts.text import printable
from reporting.terminal import console, note

_FAILURES_SHOWN = 3
_NAMES_SHOWN = 12


def print_comparison(document: dict[str, Any]) -> None:
    """Print what :func:`workflow.versus.versus.versus` returns."""
    print_one(document, "these images")
    if document["golden"] is not None:
        print_one(document["golden"], "the golden set")
    if document["changed"] is not None:
        note(f"Images whose decision or triage changed: {document['changed']}")


def print_one(document: dict[str, Any], where: str) -> None:
    """Print the comparison on one set of images.

    Args:
        document: of :func:`workflow.versus.versus.compared`.
        where: the images in words.
    """
    for what in ("decision", "triage"):
        if document[what] is not None:
            console.print(_pairs(document[what], what, where))
    for what, title in (("by_kind", "kind"), ("by_group", "group")):
        if document[what]:
            console.print(_by(document, document[what], title, where))
    if document["largest"]:
        console.print(_largest(document, where))
    if document["figures"] is not None:
        _print_figures(document["figures"], where)
    for sentence in document["sentences"]:
        note(sentence)
    if document["failed"]:
        note(f"{len(document['failed']):,} of {document['images']:,} images were not compared:")
        for each in document["failed"][:_FAILURES_SHOWN]:
            note(f"  {each['path']}: {each['reason']}")


def _pairs(counted: dict[str, Any], what: str, where: str) -> Table:
    share = 100.0 * counted["changed"] / counted["images"] if counted["images"] else 0.0
    changed = f"{counted['changed']:,} of {counted['images']:,} changed ({share:.1f} %)"
    table = Table(title=f"{what.capitalize()} on {where}", caption=changed)
    for heading in ("by the old file", "by the new file", "images"):
        table.add_column(heading, justify="right" if heading == "images" else "left", overflow="fold")
    for pair in counted["pairs"]:
        style = "yellow" if pair["old"] != pair["new"] else ""
        table.add_row(_text(pair["old"]), _text(pair["new"]), f"{pair['images']:,}", style=style)
    return table


def _by(document: dict[str, Any], rows: list[dict[str, Any]], title: str, where: str) -> Table:
    table = Table(title=f"Changes by {title} on {where}")
    table.add_column(title, overflow="fold")
    for heading in (
        "images",
        "decisions changed",
        "triage changed",
        f"mean change of {document['quantity']}",
    ):
        table.add_column(heading, justify="right")
    for row in rows[:_NAMES_SHOWN]:
        triage, change = row["triage_changed"], row["mean_change"]
        table.add_row(
            _text(row["name"] or "none"),
            f"{row['images']:,}",
            f"{row['decision_changed']:,}",
            "-" if triage is None else f"{triage:,}",
            "-" if change is None else f"{change:+.4f}",
        )
    if len(rows) > _NAMES_SHOWN:
        table.caption = f"and {len(rows) - _NAMES_SHOWN} more, which --json lists"
    return table


def _largest(document: dict[str, Any], where: str) -> Table:
    name = document["quantity"]
    table = Table(title=f"Largest changes of {name} on {where}")
    table.add_column("image", overflow="fold")
    table.add_column("label", overflow="fold")
    for heading in (f"{name} old", "new"):
        table.add_column(heading, justify="right")
    for heading in ("decision old", "new"):
        table.add_column(heading, overflow="fold")
    for row in document["largest"]:
        table.add_row(
            _text(Path(row["path"]).name),
            _text(row["label"] or "-"),
            *(f"{row[f'{name}_{when}']:.4f}" for when in ("old", "new")),
            *(_text(row[f"decision_{when}"]) for when in ("old", "new")),
        )
    return table


def _print_figures(figures: dict[str, Any], where: str) -> None:
    if figures["metrics"]:
        table = Table(title=f"Figures on {where}, and the paired difference with 95 % intervals")
        table.add_column("metric")
        for heading in ("old", "new", "new minus old"):
            table.add_column(heading, justify="right")
        for metric in figures["metrics"].values():
            estimate, low, high = metric["difference"]
            better = "" if metric["higher_is_better"] else " (lower is better)"
            table.add_row(
                f"{metric['title']}{better}",
                f"{metric['old']:.4f}",
                f"{metric['new']:.4f}",
                f"{estimate:+.4f} ({low:+.4f} to {high:+.4f})",
            )
        console.print(table)
    table = Table(title=f"Errors on {where}")
    table.add_column("what", overflow="fold")
    for heading in ("of images", "old", "new", "no more", "added"):
        table.add_column(heading, justify="right")
    for row in figures["errors"]:
        table.add_row(
            _text(row["what"]), *(f"{row[name]:,}" for name in ("images", "old", "new", "fixed", "added"))
        )
    console.print(table)


def _text(value: str) -> str:
    return escape(printable(value))
