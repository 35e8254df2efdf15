"""The curve of misses against the share of images that people look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reporting.drawing import FAINT, MAJORITY, MINORITY, Drawing, as_svg, legend_below, new_axes, our_style
from reporting.pictures import svg_uri


def review_curves(triage: Mapping[str, Any]) -> list[Drawing]:
    """The figure, with words for those who cannot see it."""
    # Beyond the least share, higher rates only make images NOVEL, and the line would turn back.
    least = min(range(len(triage["curve"])), key=lambda place: triage["curve"][place]["people"][0])
    curve = triage["curve"][: least + 1]
    told = ", ".join(f"{point['people'][0]:.1%} reviewed: {point['misses'][0]:.1%} missed" for point in curve)
    return [
        Drawing(
            "Errors over the share left to people",
            svg_uri(_figure(curve, triage)),
            f"Misses by share of images for people. {told}.",
            f"Each dot asks the same error rate of both classes, from {curve[0]['rate']:.1%} to "
            f"{curve[-1]['rate']:.0%}, beyond which no fewer images are left; bars are 95 % intervals. "
            "Rings are the rates that are set.",
        )
    ]


def _figure(curve: Sequence[Mapping[str, Any]], triage: Mapping[str, Any]) -> str:
    set_people = triage["review"][0] + triage["novel"][0]
    with our_style():
        figure, axes = new_axes("share of images for people (REVIEW or NOVEL)", "share of the class")
        # Along the curve as the rates grow; two rates may leave the same share.
        for name, colour, label in (
            ("misses", MINORITY, "minority images passed"),
            ("false_alarms", MAJORITY, "other images failed"),
        ):
            x = np.array([point["people"][0] for point in curve])
            y, low, high = np.array([point[name] for point in curve]).T
            axes.errorbar(x, y, [y - low, high - y], color=colour, fmt="o-", markersize=3.5, linewidth=1.2,
                          elinewidth=0.8, label=label)  # fmt: skip
            axes.plot([set_people], [triage[name][0]], "o", markersize=9, markerfacecolor="none",
                      markeredgecolor=colour)  # fmt: skip
        axes.axvline(0.0, color=FAINT, linewidth=0.8)
        axes.set(ylim=(-0.01, None), xlim=(-0.02, 1.0))
        legend_below(figure)
        return as_svg(figure)
