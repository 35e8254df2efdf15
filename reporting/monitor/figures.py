"""Figures over batches: share of the minority, medians of what is watched, evidence about calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from reporting.drawing import FAINT, MAJORITY, MINORITY, as_svg, legend_below, new_axes, our_style

Batches = Sequence[Mapping[str, Any]]
"""Of the document of ``monitor``."""

_MOST_TICKS = 8


def shares(batches: Batches, minority: str) -> str:
    """SVG: estimated share with its interval, batch by batch; gaps where there is no figure."""
    with our_style():
        figure, axes = _over_batches(batches, f"share of {minority}")
        given = [
            (at, batch["share"]["figure"]) for at, batch in enumerate(batches, 1) if batch["share"]["figure"]
        ]
        for at, share in given:
            axes.plot([at, at], [share["low"], share["high"]], color=MINORITY, linewidth=1.4)
        axes.plot([at for at, _ in given], [each["value"] for _, each in given], "o", color=MINORITY)
        axes.set_ylim(bottom=0.0)
        return as_svg(figure)


def medians(batches: Batches, name: str, title: str) -> str:
    """SVG: a quantity's median, batch by batch, beside training's; batches with an alarm stand out."""
    with our_style():
        figure, axes = _over_batches(batches, title)
        found = [
            (at, change)
            for at, batch in enumerate(batches, 1)
            for change in batch["changes"]
            if change["name"] == name
        ]
        axes.plot(
            [at for at, _ in found], [c["usual"] for _, c in found], "_", color=FAINT, label="in training"
        )
        for alarm, colour, label in ((False, MAJORITY, "as usual"), (True, MINORITY, "alarm")):
            mine = [(at, change) for at, change in found if change["alarm"] is alarm]
            if mine:
                axes.plot(
                    [at for at, _ in mine], [c["median"] for _, c in mine], "o", color=colour, label=label
                )
        legend_below(figure)
        return as_svg(figure)


def evidence(calibration: Mapping[str, Any]) -> str:
    """SVG: the two sums of the CUSUM over answers, and their limit."""
    with our_style():
        figure, axes = new_axes("answered images", "evidence")
        at = range(1, calibration["answers"] + 1)
        axes.plot(at, calibration["more"], color=MINORITY, label="more than said")
        axes.plot(at, calibration["fewer"], color=MAJORITY, label="fewer than said")
        axes.axhline(calibration["limit"], color=FAINT, linestyle="--", label="limit")
        legend_below(figure)
        return as_svg(figure)


def _over_batches(batches: Batches, ylabel: str) -> tuple[Figure, Any]:
    """Axes on which batches stand in the order of time, with a few of their days."""
    figure, axes = new_axes("scored", ylabel)
    step = max(1, -(-len(batches) // _MOST_TICKS))
    ticks = list(range(1, len(batches) + 1, step))
    axes.set_xticks(ticks, [batches[at - 1]["scored"][5:16].replace("T", "\n") for at in ticks])
    axes.set_xlim(0.5, len(batches) + 0.5)
    return figure, axes
