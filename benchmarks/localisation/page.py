"""The page ``docs/results/localisation.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pages import opening
from contracts.files import write_text

FIGURES = {"pixel_auroc": "pixel AUROC", "pro": "PRO"}
"""Figures by name, as people read them."""

TOGETHER = "together"
"""Name of the map of all members."""

NOTES = "## What it shows"
"""What stands on the page from this heading on is written by people, and kept when the page is made again."""


def shown_interval(of: Mapping[str, float]) -> str:
    """A difference and its 95 % interval."""
    return f"{of['mean']:+.3f} ({of['low']:+.3f} … {of['high']:+.3f})"


def write_page(path: Path, text: str) -> None:
    """Write the page; what people wrote below :data:`NOTES` stays."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    notes = old[old.index(NOTES) :] if NOTES in old else f"{NOTES}\n\nNothing yet.\n"
    write_text(path, f"{text}\n{notes}")


def as_markdown(document: Mapping[str, Any], command: str) -> str:
    """The page.

    Args:
        document: of :func:`benchmarks.localisation.run.bench_localisation`.
        command: that made it.
    """
    problems = document["problems"]
    maps, kinds = document["maps"], problems[0]["damage"]
    sets = list(dict.fromkeys(problem["set"] for problem in problems))
    members = [each for each in maps if each != TOGETHER]
    lines = [
        *opening("Which map finds the damage", command),
        f"{len(problems)} problems: {', '.join(sets)}, drawn again with each seed. Pictures are real, the "
        f"damage is drawn ({', '.join(kinds)}), and the tree is laid out as MVTec AD is.",
        "Half of the damaged images are moved into training, with their label and without their mask. Each "
        "problem is a whole run: `train-all` and `ensemble` on a recipe of the calibrated baseline and",
        f"{', '.join(f'`{each}`' for each in members)} without views, then `localise` on the maps of "
        "the exported file, on test images. PRO is integrated up to 30 % false positive",
        "pixels; guessing has a pixel AUROC of 0.5 and a PRO of 0.15. *Together* is the mean of "
        "the maps, each with 0 for a typical patch of a normal image and 1 for one that",
        "one in 200 lies above, by images that the folds held out.",
        "",
        "| map | "
        + " | ".join(f"{shown} | together less it" for shown in FIGURES.values())
        + " | best of all in |",
        "|---|" + "---:|---:|" * len(FIGURES) + "---:|",
        *(_line(document, each, maps) for each in maps),
        "",
        "Means over all problems; intervals are of 95 % and draw sets and problems within each.",
        "",
        "## Set by set",
        "",
        *_table("set", sets, maps, lambda name, each: _of_set(problems, name, each)),
        "",
        "## Kind by kind",
        "",
        "Each kind of damage against all normal images; means over all problems.",
        "",
        *_table("damage", kinds, maps, lambda name, each: _of_kind(problems, name, each)),
        "",
    ]
    return "\n".join(lines)


def _line(document: Mapping[str, Any], each: str, maps: Sequence[str]) -> str:
    cells = []
    for figure in FIGURES:
        of = document["differences"][figure].get(each)
        cells += [f"{document['means'][figure][each]:.3f}", "" if of is None else shown_interval(of)]
    problems = document["problems"]
    won = sum(max(maps, key=lambda name: p["maps"][name]["pro"]) == each for p in problems)
    return f"| {each} | {' | '.join(cells)} | {won} of {len(problems)} by PRO |"


def _table(what: str, names: Sequence[str], maps: Sequence[str], values: Any) -> list[str]:
    """Pixel AUROC / PRO, one row per name and one column per map."""
    rows = []
    for name in names:
        cells = [" / ".join(f"{value:.3f}" for value in values(name, each)) for each in maps]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    heading = " | ".join(f"{each}, pixel AUROC / PRO" for each in maps)
    return [f"| {what} | {heading} |", "|---|" + "---:|" * len(maps), *rows]


def _of_set(problems: Sequence[Mapping[str, Any]], name: str, each: str) -> list[float]:
    own = [problem["maps"][each] for problem in problems if problem["set"] == name]
    return [float(np.mean([found[figure] for found in own])) for figure in FIGURES]


def _of_kind(problems: Sequence[Mapping[str, Any]], name: str, each: str) -> list[float]:
    own = [problem["maps"][each]["kinds"][name] for problem in problems]
    return [float(np.mean([found[figure] for found in own])) for figure in FIGURES]
