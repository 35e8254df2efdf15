"""One picture that explains one image: the image, the maps, who said what, and the nearest normal patches."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from contracts.rows import FloatArray, ImageArray

SPAN = 5
"""Cells per side of a crop: a patch's features see about as much around their cell."""

_DOTS_PER_INCH = 110
_WIDTH = 10.0  # inches
_TOP_ROW, _MAP_ROW, _PATCH_ROW = 3.3, 3.1, 2.25  # inches
_IN_A_ROW = 3
_LONGEST_NAME = 30
_PATCH_COLOURS = ("#d55e00", "#0072b2", "#009e73")  # Okabe & Ito
_TOWARDS, _AWAY = "#d55e00", "#56b4e9"
_MAP_COLOURS = "inferno"
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8.5,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Place:
    """A cell of an image's patch grid.

    Attributes:
        cell: ``row * grid + column``.
        grid: cells per side.
    """

    cell: int
    grid: int

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom as shares of the image's sides, 0…1."""
        row, column = divmod(self.cell, self.grid)
        return column / self.grid, row / self.grid, (column + 1) / self.grid, (row + 1) / self.grid

    @property
    def words(self) -> str:
        """For people, who count from 1."""
        row, column = divmod(self.cell, self.grid)
        return f"row {row + 1}, column {column + 1} of {self.grid}"


@dataclass(frozen=True)
class ShownPatch:
    """A patch to be shown as a crop.

    Attributes:
        pixels: ``[S, S, 3]`` of the whole image that it lies in.
        place: where.
        name: of the file; empty for the image that is explained.
        distance: to the patch it is compared with, or to the bank.
    """

    pixels: ImageArray
    place: Place
    name: str
    distance: float


@dataclass(frozen=True)
class ShownMap:
    """Where one member, or all together, see the evidence.

    Attributes:
        name: of the member, or ``together``.
        heat: ``[g, g]``, higher = more anomalous.
        usual: the value that half of the normal held-out patches stay below, and the one that 99.5 % of them
            do; colours begin at the first.
        unit: of the values; empty where they have none.
    """

    name: str
    heat: FloatArray
    usual: tuple[float, float]
    unit: str


@dataclass(frozen=True)
class Explanation:
    """What the picture shows.

    Attributes:
        name: of the image's file.
        verdict: probability, threshold and decision in a line.
        pixels: ``[S, S, 3]`` as the model sees the image.
        maps: the first beside the image, the others below; none where no member has one.
        contributions: member → its part, against an average image.
        unit: of the parts.
        patches: each deciding patch with its nearest normal patches.
        whole: ``[H, W, 3]`` the whole picture, dark outside of the region of interest; None without a region.
    """

    name: str
    verdict: str
    pixels: ImageArray
    maps: Sequence[ShownMap]
    contributions: Sequence[tuple[str, float]]
    unit: str
    patches: Sequence[tuple[ShownPatch, Sequence[ShownPatch]]]
    whole: ImageArray | None = None


class ExplanationFigure(Figure):
    """A figure that notebooks show by themselves, whether or not pyplot is in use."""

    def _repr_png_(self) -> bytes:
        return png(self)


def draw(explanation: Explanation) -> ExplanationFigure:
    """The picture, laid out."""
    n_rows, n_neighbours = len(explanation.patches), max((len(n) for _, n in explanation.patches), default=0)
    below = [
        explanation.maps[start : start + _IN_A_ROW] for start in range(1, len(explanation.maps), _IN_A_ROW)
    ]
    with matplotlib.style.context(["default", _STYLE]):
        heights = [_TOP_ROW] + [_MAP_ROW] * len(below) + [_PATCH_ROW] * n_rows
        height = 0.55 + sum(heights)
        figure = ExplanationFigure(figsize=(_WIDTH, height), layout="constrained")
        figure.suptitle(
            f"{printable(explanation.name)}\n{printable(explanation.verdict, 200)}",
            parse_math=False,
            fontsize=10.5,
        )
        rows = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        n_whole = 0 if explanation.whole is None else 1
        top = rows[0].subgridspec(1, 3 + n_whole)
        if explanation.whole is not None:
            axes = figure.add_subplot(top[0])
            axes.imshow(explanation.whole)
            _bare(axes, "the region of interest")
        _draw_image(figure.add_subplot(top[n_whole]), explanation)
        _draw_map(figure, figure.add_subplot(top[n_whole + 1]), explanation.pixels, explanation.maps)
        _draw_contributions(figure.add_subplot(top[n_whole + 2]), explanation.contributions, explanation.unit)
        for line, maps in enumerate(below):
            places = rows[1 + line].subgridspec(1, _IN_A_ROW)
            for place in range(len(maps)):
                _draw_map(figure, figure.add_subplot(places[place]), explanation.pixels, maps[place:])
        for number, (patch, neighbours) in enumerate(explanation.patches):
            cells = rows[1 + len(below) + number].subgridspec(1, 1 + n_neighbours)
            colour = _PATCH_COLOURS[number % len(_PATCH_COLOURS)]
            title = f"patch {number + 1}: {patch.place.words}\n{patch.distance:.3g} from the normal ones"
            _draw_crop(figure.add_subplot(cells[0]), patch, title, colour)
            for place, near in enumerate(neighbours):
                title = f"normal, {near.distance:.3g} away: {near.place.words}\n{printable(near.name)}"
                _draw_crop(figure.add_subplot(cells[1 + place]), near, title, "#555555")
        _settle(figure)
    return figure


def png(figure: Figure) -> bytes:
    """A drawn picture as a PNG file; equal content gives equal bytes."""
    buffer = io.BytesIO()
    with matplotlib.style.context(["default", _STYLE]):
        figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def _settle(figure: Figure) -> None:
    """Keep the places that the layout found, less its last bits, which differ from time to time."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = axes.get_position().bounds
        axes.set_position((round(left, 4), round(bottom, 4), round(width, 4), round(height, 4)))


def printable(name: str, longest: int = _LONGEST_NAME) -> str:
    """A name that the font can draw: letters beyond ASCII become ?, and a long one loses its beginning."""
    text = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in name)
    return text if len(text) <= longest else f"...{text[3 - longest :]}"


def crop(pixels: ImageArray, place: Place, span: int = SPAN) -> tuple[ImageArray, tuple[int, int, int, int]]:
    """Cut a cell with its surroundings out of an image; at a border the window is pushed inside.

    Args:
        pixels: ``[S, S, 3]``.
        place: the cell.
        span: cells per side of the window; at most those of the grid.

    Returns:
        The window, and the cell's left, top, right and bottom within it in pixels.
    """
    side, span = pixels.shape[0], min(span, place.grid)
    # Rounded edges, because the image's side need not be a multiple of the grid.
    edges = np.rint(np.arange(place.grid + 1) * side / place.grid).astype(int)
    row, column = divmod(place.cell, place.grid)
    first_row, first_column = (min(max(at - span // 2, 0), place.grid - span) for at in (row, column))
    top, bottom = edges[first_row], edges[first_row + span]
    left, right = edges[first_column], edges[first_column + span]
    box = (edges[column] - left, edges[row] - top, edges[column + 1] - left, edges[row + 1] - top)
    return pixels[top:bottom, left:right], tuple(map(int, box))  # type: ignore[return-value]


def _bare(axes: Axes, title: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(title, parse_math=False, fontsize=8.5)


def _outline(axes: Axes, box: tuple[float, float, float, float], colour: str) -> None:
    left, top, right, bottom = box
    # Pixels are centred on whole numbers, so their edges lie half a pixel before.
    corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=3.2))
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=1.8))


def _draw_image(axes: Axes, explanation: Explanation) -> None:
    axes.imshow(explanation.pixels)
    _bare(axes, "as the model sees it")
    side = explanation.pixels.shape[0]
    for number, (patch, _) in enumerate(explanation.patches):
        left, top, right, bottom = (side * share for share in patch.place.box)
        colour = _PATCH_COLOURS[number % len(_PATCH_COLOURS)]
        _outline(axes, (left, top, right, bottom), colour)
        axes.text(
            (left + right) / 2 - 0.5,
            (top + bottom) / 2 - 0.5,
            str(number + 1),
            color=colour,
            fontsize=7.5,
            fontweight="bold",
            ha="center",
            va="center",
            # A white rim keeps it legible on any picture.
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
        )


def _draw_map(figure: Figure, axes: Axes, pixels: ImageArray, maps: Sequence[ShownMap]) -> None:
    """The first of the maps over the image in grey."""
    if not maps:
        _bare(axes, "")
        axes.text(0.5, 0.5, "no member has a map", ha="center", va="center", transform=axes.transAxes)
        return
    shown, side = maps[0], pixels.shape[0]
    low, usual = shown.usual
    # A normal image stays dark; whatever lies beyond the usual sets the upper end.
    high = max(usual + 0.05 * (usual - low), float(shown.heat.max()), low + 1e-12)
    axes.imshow(pixels.astype(np.float64).mean(axis=2), cmap="gray", vmin=0, vmax=255)
    share = np.clip((shown.heat - low) / (high - low), 0.0, 1.0)
    extent = (-0.5, side - 0.5, side - 0.5, -0.5)
    axes.imshow(
        shown.heat,
        cmap=_MAP_COLOURS,
        vmin=low,
        vmax=high,
        extent=extent,
        alpha=0.75 * np.sqrt(share),
        interpolation="nearest",
    )
    _bare(axes, "all maps together" if not shown.unit else f"map of {printable(shown.name)}")
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(low, high), _MAP_COLOURS)
    bar = figure.colorbar(scale, ax=axes, fraction=0.046, pad=0.03)
    bar.ax.axhline(usual, color="#00c0c0", linewidth=1.5)
    bar.set_label(f"{f'{shown.unit}; ' if shown.unit else ''}line: 99.5 % of normal patches", fontsize=7)


def _draw_contributions(axes: Axes, contributions: Sequence[tuple[str, float]], unit: str) -> None:
    in_order = sorted(contributions, key=lambda each: abs(each[1]))
    values = [value for _, value in in_order]
    axes.barh(range(len(values)), values, color=[_TOWARDS if value > 0 else _AWAY for value in values])
    axes.set_yticks(range(len(values)), [printable(name, 18) for name, _ in in_order])
    axes.axvline(0.0, color="#222222", linewidth=0.8)
    axes.set_xlabel(f"{unit}, against an average image", fontsize=7.5)
    axes.set_title("what each member adds", fontsize=8.5)
    axes.locator_params(axis="x", nbins=5)


def _draw_crop(axes: Axes, patch: ShownPatch, title: str, colour: str) -> None:
    window, box = crop(patch.pixels, patch.place)
    axes.imshow(window, interpolation="nearest")
    _bare(axes, title)
    axes.title.set_fontsize(7)
    _outline(axes, box, colour)
