"""Cells and sentences of the two tables, for terminal and page alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contracts.triage import TRIAGE_NAMES

TRIAGE = "Triage"
TRIAGE_COLUMNS = ("images", *TRIAGE_NAMES)
IN_USE = "At the share you expect"

_PER_1000 = (
    ("alarms", "alarms"),
    ("false_alarms", "false alarms"),
    ("misses", "misses"),
)


def triage_rows(triage: Mapping[str, Any], minority: str) -> list[tuple[str, ...]]:
    """Cells of :data:`TRIAGE_COLUMNS`: how many judged images of each class became what.

    Args:
        triage: under that key in the document of ``ensemble``.
        minority: name of the class.
    """
    names = {"minority": minority, "normal": "all others"}
    return [
        (title, *(f"{triage['counts'][of][name]:,}" for name in TRIAGE_NAMES)) for of, title in names.items()
    ]


def triage_sentences(triage: Mapping[str, Any], minority: str) -> list[str]:
    """What was asked, and what the judged images show of it."""
    levels, coverage = triage["levels"], triage["coverage"]
    return [
        f"Of “{minority}”, {_share(triage['misses'])} were passed (asked: at most "
        f"{levels['miss_rate']:.3g}); of all others, {_share(triage['false_alarms'])} failed (asked: at most "
        f"{levels['false_alarms']:.3g}). "
        f"The set of classes held the true one for {_share(coverage['minority'])} and "
        f"{_share(coverage['normal'])}.",
        f"At a share of {triage['share']:.3g} of “{minority}”, {_share(triage['review'])} of the images are "
        f"left for REVIEW and {_share(triage['novel'])} are NOVEL, like neither.",
    ]


def in_use_columns(in_use: Mapping[str, Any]) -> tuple[str, ...]:
    """Headings; the cost where somebody named costs."""
    costs = in_use["costs"]
    fixed = ("share of the minority", *(f"{title} per 1,000" for _, title in _PER_1000), "right alarms")
    return fixed if costs is None else (*fixed, "cost per 1,000")


def in_use_rows(in_use: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Cells of :func:`in_use_columns`, one row per share."""
    return [
        (
            f"{figures['share']:.3g}",
            *(_number(figures[name]) for name, _ in _PER_1000),
            "–" if figures["precision"] is None else _share(figures["precision"]),
            *([] if figures["cost"] is None else [_number(figures["cost"])]),
        )
        for figures in in_use["figures"]
    ]


def in_use_sentence(in_use: Mapping[str, Any], minority: str) -> str:
    """What the last row says in words, and how to ask for another share."""
    figures = in_use["figures"][-1]
    if figures["precision"] is None:
        said = f"Nothing is decided “{minority}”."
    else:
        said = (
            f"Where {figures['share']:.3g} of the images are “{minority}”, {figures['alarms'][0]:.3g} of "
            f"1,000 images are decided so, {100.0 * figures['precision'][0]:.0f} % of them rightly, and "
            f"{figures['misses'][0]:.3g} are missed."
        )
    if in_use["stated"] and len(in_use["figures"]) == 1:
        return said
    example = "This share is an example" if len(in_use["figures"]) > 1 else "This is the share in training"
    return f"{said} {example}: 'ensemble --prior' makes probabilities, threshold and these figures for yours."


def _share(figure: Sequence[float]) -> str:
    """``3.4 % (1.2–6.0)``."""
    value, low, high = (f"{100.0 * each:.1f}" for each in figure)
    return f"{value} % ({low}–{high})"


def _number(figure: Sequence[float]) -> str:
    """``34 (12–60)``: three digits are what such intervals are worth."""
    value, low, high = (f"{each:.3g}" if each < 1000.0 else f"{each:,.0f}" for each in figure)
    return f"{value} ({low}–{high})"
