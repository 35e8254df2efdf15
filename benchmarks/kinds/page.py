"""The page ``docs/results/kinds.md``: what one-class members cost on kinds seen and gain on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.few_labels.draws import MOST_MAJORITY, MOST_TEST
from benchmarks.few_labels.intervals import Interval, interval_of
from benchmarks.kinds.judge import ENSEMBLE, UNGUARDED, WAYS, WITHOUT, Judged
from benchmarks.pages import opening
from contracts.files import write_text

SOLVED = 1e-3
"""Least ranking error; see :mod:`benchmarks.fusion.judge`."""
_FIGURES = ("auroc", "average_precision", "recall")


@dataclass(frozen=True)
class Verdicts:
    """All kinds of all problems.

    Attributes:
        judged: J of them.
        members: that were fused.
        counts: numbers of labels over all kinds.
    """

    judged: Sequence[Judged]
    members: Sequence[str]
    counts: Sequence[int]

    @cached_property
    def data_sets(self) -> list[str]:
        """``[J]`` names."""
        return [each.data_set for each in self.judged]

    def values(self, way: str, figure: str, how: str) -> npt.NDArray[np.float64]:
        """``[J]`` of one figure; ``how`` is ``seen`` or ``unseen``."""
        return np.array([getattr(getattr(each, how)[way], figure) for each in self.judged])

    def log_error(self, way: str, how: str) -> npt.NDArray[np.float64]:
        """``[J]`` natural logarithm of 1 - AUROC."""
        return np.log(np.maximum(1.0 - self.values(way, "auroc", how), SOLVED))

    def change(self, way: str, other: str, how: str) -> Interval:
        """Mean difference of the log error from another way's."""
        return interval_of(self.log_error(way, how) - self.log_error(other, how), self.data_sets)


def document_of(verdicts: Verdicts) -> dict[str, Any]:
    """All figures for ``--json``."""
    return {
        "kinds": len(verdicts.judged),
        "drawn_back": sum(each.drawn_back for each in verdicts.judged),
        "ways": {
            way: {
                how: {figure: float(verdicts.values(way, figure, how).mean()) for figure in _FIGURES}
                | {"log_error_against_without": vars(verdicts.change(way, WITHOUT, how))}
                for how in ("seen", "unseen")
            }
            for way in WAYS
        },
    }


def as_markdown(verdicts: Verdicts, command: str) -> str:
    """The page."""
    sets = list(dict.fromkeys(verdicts.data_sets))
    n_back = sum(each.drawn_back for each in verdicts.judged)
    lines = [
        *opening("Kinds never seen", command),
        f"{len(sets)} data sets in which one class is the majority and all others are kinds of the minority. "
        f"At most {MOST_MAJORITY} majority images and {', '.join(map(str, verdicts.counts))} images of the "
        "minority train, drawn over",
        f"all kinds; images of other groups, at most {MOST_TEST} of each class, are judged. Every kind is "
        "judged twice: by what was trained with its images among the labels (*seen*), and by what was",
        "trained without any of them, members, stacker, calibrator and threshold alike (*never seen*). The "
        f"members are {', '.join(f'`{name}`' for name in verdicts.members)}.",
        "Figures are of one kind against the majority, "
        f"means over {len(verdicts.judged)} kinds of all sets; the recall is at each way's own threshold.",
        "",
        "| | AUROC | AP | recall | AUROC, never seen | AP, never seen | recall, never seen | worst AUROC, "
        "never seen |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(_line(verdicts, way) for way in WAYS),
        "",
        "## What the one-class members cost and gain",
        "",
        "Mean difference of log(1 − AUROC) from the ensemble without them, with 95 % intervals that draw "
        f"data sets and kinds within each; errors below {SOLVED:g} count as {SOLVED:g}. Below 0 is better.",
        "",
        "| | seen | never seen |",
        "|---|---:|---:|",
        *(
            f"| {way} | {_interval(verdicts.change(way, WITHOUT, 'seen'))} | "
            f"{_interval(verdicts.change(way, WITHOUT, 'unseen'))} |"
            for way in WAYS
            if way != WITHOUT
        ),
        "",
        f"The gate on kinds never seen drew the stack back in {n_back} of {len(verdicts.judged)} cases. "
        f"Against the ensemble with one gate it changes the log error by "
        f"{_interval(verdicts.change(ENSEMBLE, UNGUARDED, 'seen'))} on kinds seen and by "
        f"{_interval(verdicts.change(ENSEMBLE, UNGUARDED, 'unseen'))} on kinds never seen.",
        "",
        "## By data set",
        "",
        "AUROC, seen → never seen.",
        "",
        f"| majority | kinds | {ENSEMBLE} | {WITHOUT} | one-class members alone | calibrated baseline |",
        "|---|---:|---:|---:|---:|---:|",
        *(_of_set(verdicts, name) for name in sets),
        "",
        "## The ways",
        "",
        *(f"- **{name}**: {way.what}." for name, way in WAYS.items()),
        "",
    ]
    return "\n".join(lines)


def _line(verdicts: Verdicts, way: str) -> str:
    cells = [
        f"{verdicts.values(way, figure, how).mean():.4f}" for how in ("seen", "unseen") for figure in _FIGURES
    ]
    worst = verdicts.values(way, "auroc", "unseen").min()
    name = f"**{way}**" if way == ENSEMBLE else way
    return f"| {name} | {' | '.join(cells)} | {worst:.3f} |"


def _of_set(verdicts: Verdicts, name: str) -> str:
    mine = np.array(verdicts.data_sets) == name
    cells = [
        " → ".join(f"{verdicts.values(way, 'auroc', how)[mine].mean():.3f}" for how in ("seen", "unseen"))
        for way in (ENSEMBLE, WITHOUT, "one-class members alone", "calibrated baseline")
    ]
    return f"| {name} | {mine.sum()} | {' | '.join(cells)} |"


def _interval(interval: Interval) -> str:
    text = f"{interval.mean:+.3f} ({interval.low:+.3f} … {interval.high:+.3f})"
    return f"**{text}**" if interval.excludes_zero else text


def write_page(verdicts: Verdicts, command: str, path: Path) -> None:
    """Write the page, whole or not at all."""
    write_text(path, as_markdown(verdicts, command))
