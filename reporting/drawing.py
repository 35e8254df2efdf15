"""What all figures share: style, axes, a legend below them, reproducible SVG, and words for the page."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MAJORITY, MINORITY, FAINT = "#56b4e9", "#d55e00", "#999999"
"""Okabe & Ito 2008: told apart under every common colour blindness."""

_SIZE = (4.4, 4.1)  # inches; a phone shows it at eight tenths of its size, so that 9 points stay legible
_STYLE = {
    "svg.hashsalt": "outnumbered",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@contextmanager
def our_style() -> Iterator[None]:
    """Use matplotlib's defaults and our style, whatever the user's matplotlibrc says; undone afterwards."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def as_svg(figure: Figure) -> str:
    """A figure as SVG text; equal figures give equal text."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    return buffer.getvalue()


def new_axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """A figure of the usual size with one pair of axes."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def legend_below(figure: Figure) -> None:
    """A legend below the axes, where it can hide no curve."""
    figure.legend(loc="outside lower center")


@dataclass(frozen=True)
class Drawing:
    """A figure as a page shows it.

    Attributes:
        title: heading above it.
        uri: the picture, as a ``data:`` URI.
        alt: the same in words, for those who cannot see it.
        caption: below it.
        is_wide: takes the whole width of the page.
    """

    title: str
    uri: str
    alt: str
    caption: str
    is_wide: bool = False
