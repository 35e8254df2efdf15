"""Figures of a data set as SVG text.

As in :mod:`reporting.figures`, nothing that a stranger named is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from contracts.rows import FloatArray, LabelArray, MaskArray
from reporting.drawing import FAINT, MAJORITY, MINORITY, as_svg, legend_below, new_axes, our_style

# Okabe & Ito 2008, with a shape each for print without colour; the minority's are the last.
CLASS_MARKS = (
    ("#56b4e9", "o", "●"),
    ("#009e73", "s", "■"),
    ("#cc79a7", "D", "◆"),
    ("#e69f00", "v", "▼"),
    ("#0072b2", "P", "✚"),
    ("#999999", "X", "✖"),
)
MINORITY_MARK = (MINORITY, "^", "▲")

_BINS = 30
_DOTS_PER_INCH = 160


def marks_of(n_classes: int) -> list[tuple[str, str, str]]:
    """Colour, matplotlib's marker and letter of each class; majority classes beyond the marks share one."""
    majority = [CLASS_MARKS[min(i, len(CLASS_MARKS) - 1)] for i in range(n_classes - 1)]
    return [*majority, MINORITY_MARK]


def sizes(widths: npt.NDArray[np.int64], heights: npt.NDArray[np.int64], is_minority: MaskArray) -> str:
    """Stored heights over widths; a dot's area grows with the number of images of that size."""
    with our_style():
        figure, axes = new_axes("stored width (pixels)", "stored height (pixels)")
        for mine, colour, marker, name in _two_sides(is_minority):
            pairs, counts = np.unique(np.stack([widths[mine], heights[mine]]), axis=1, return_counts=True)
            area = 14.0 + 240.0 * counts / max(1, counts.max())
            axes.scatter(
                pairs[0], pairs[1], s=area, c=colour, marker=marker, alpha=0.5, linewidths=0.6,
                label=name, rasterized=True,
            )  # fmt: skip
        # Both axes begin at 0, so that the proportions of images are seen.
        axes.axline((0, 0), slope=1, color=FAINT, linewidth=0.8, linestyle=":", label="square")
        axes.set(xlim=(0, 1.12 * widths.max()), ylim=(0, 1.12 * heights.max()))
        legend_below(figure)
        return _with_marks_as_pixels(figure)


def histogram(values: npt.NDArray[np.float64], is_minority: MaskArray, xlabel: str) -> str:
    """Shares of each side's images over a value between 0 and 255 (or its half, for a deviation)."""
    with our_style():
        figure, axes = new_axes(xlabel, "share of the images (%)")
        low, high = float(values.min()), float(values.max())
        edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
        for mine, colour, _, name in _two_sides(is_minority):
            shares = 100.0 * np.histogram(values[mine], edges)[0] / max(1, int(mine.sum()))
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(shares, edges, color=colour, linewidth=1.6, label=name)
        axes.set(xlim=(edges[0], edges[-1]))
        legend_below(figure)
        return as_svg(figure)


def groups(counts: npt.NDArray[np.int64], minority_counts: npt.NDArray[np.int64], is_test: MaskArray) -> str:
    """Share of the minority class over the number of images, one mark per group."""
    with our_style():
        figure, axes = new_axes("images of the group", "of the minority class (%)")
        shares = 100.0 * minority_counts / np.maximum(counts, 1)
        for mine, colour, marker, name in (
            (~is_test, "#0072b2", "o", "training"),
            (is_test, MINORITY, "D", "held out"),
        ):
            if mine.any():
                axes.scatter(
                    counts[mine], shares[mine], s=26, c=colour, marker=marker, alpha=0.65,
                    linewidths=0.5, edgecolors="white", label=name, rasterized=True,
                )  # fmt: skip
        if counts.max() > 20 * max(1, counts.min()):
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.set_ylim(-3, 103)
        legend_below(figure)
        return _with_marks_as_pixels(figure)


def embedding(
    positions: FloatArray, labels: LabelArray, n_classes: int, outliers: Sequence[int], method: str
) -> str:
    """Rows in the plane by the marks of their classes; the named outliers ringed and numbered from 1.

    Args:
        positions: ``[N, 2]``.
        labels: ``[N]`` class index, minority last.
        n_classes: K.
        outliers: positions of the rows that are named.
        method: how the plane came about.
    """
    with our_style():
        figure, axes = new_axes(f"{method}, first axis", f"{method}, second axis")
        figure.set_size_inches(5.4, 4.9)
        size = 22.0 if len(positions) < 600 else 12.0 if len(positions) < 2500 else 7.0
        for label, (colour, marker, _) in enumerate(marks_of(n_classes)):
            mine = labels == label
            axes.scatter(
                positions[mine, 0],
                positions[mine, 1],
                s=size * (1.5 if label == n_classes - 1 else 1.0),
                c=colour,
                marker=marker,
                alpha=0.75,
                linewidths=0.3,
                edgecolors="white",
                rasterized=True,
            )
        for number, row in enumerate(outliers, 1):
            x, y = positions[row]
            axes.plot(x, y, "o", markersize=9, markerfacecolor="none", markeredgecolor="black")
            axes.annotate(
                str(number), (x, y), xytext=(6, 5), textcoords="offset points", fontsize=9.5,
                fontweight="bold",
                bbox={"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.75},
            )  # fmt: skip
        axes.set_xticks([])
        axes.set_yticks([])
        return _with_marks_as_pixels(figure)


def _with_marks_as_pixels(figure: Figure) -> str:
    """The figure with its rasterised marks sharp enough for print; as paths, thousands would be megabytes."""
    figure.set_dpi(_DOTS_PER_INCH)
    return as_svg(figure)


def _two_sides(is_minority: MaskArray) -> list[tuple[MaskArray, str, str, str]]:
    sides = [(~is_minority, MAJORITY, "o", "other"), (is_minority, MINORITY, "^", "minority class")]
    return [side for side in sides if side[0].any()]
