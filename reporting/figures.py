"""The report's figures as SVG text, one function a figure.

Drawn with matplotlib's objects, never with pyplot, whose state is global. Letters become paths, so that
a figure looks the same wherever it is opened; ids are salted and no date is written, so that equal data
give equal bytes. Nothing that a stranger named (class, file) is drawn: matplotlib would read ``$`` as
mathematics and lacks most of the world's letters. Such names stand in the page's text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from contracts.rows import LabelArray
from evaluation.curves import THRESHOLDS, Band, net_benefit_of_flagging_all
from evaluation.metrics import Float64Array
from reporting.content import AnyModel, Model, MulticlassModel, Role
from reporting.drawing import FAINT, MAJORITY, MINORITY, as_svg, legend_below, new_axes, our_style

# Okabe & Ito 2008: told apart under every common colour blindness; dashes serve print without colour.
COLOURS: dict[Role, str] = {"baseline": "#555555", "best_single": "#d55e00", "ensemble": "#0072b2"}
_DASHES: dict[Role, Any] = {"baseline": (0, (5, 2)), "best_single": (0, (1, 1.2)), "ensemble": "-"}
_VERDICT_COLOURS = {"better": "#009e73", "worse": "#d55e00"}
_HISTOGRAM_BINS = 25


def _draw(axes: Axes, model: AnyModel, band: Band, label: str, **line: Any) -> None:
    """A curve in its band; the final model lies on top."""
    colour = COLOURS[model.role]
    front = 4 if model.role == "ensemble" else 3
    axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.14, linewidth=0, zorder=2)
    style = {"linestyle": _DASHES[model.role], "linewidth": 1.8, **line}
    axes.plot(band.x, band.y, color=colour, label=label, zorder=front, **style)


def precision_recall(models: Sequence[Model], values: Mapping[str, float], prevalence: float) -> str:
    """Precision over recall.

    Args:
        models: to be drawn.
        values: row name → average precision.
        prevalence: share of the minority among the rows, the precision of guessing.
    """
    with our_style():
        figure, axes = new_axes("recall (share of the outnumbered class found)", "precision")
        axes.axhline(prevalence, color=FAINT, linewidth=1, label=f"guessing ({prevalence:.3f})")
        for model in models:
            _draw(axes, model, model.curves.precision_recall, _named(model, "AP", values))
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        legend_below(figure)
        return as_svg(figure)


def roc(models: Sequence[Model], values: Mapping[str, float]) -> str:
    """True positive rate over false positive rate; ``values`` are AUROCs by row name."""
    with our_style():
        figure, axes = new_axes("false positive rate", "true positive rate")
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, label="guessing (0.500)")
        for model in models:
            _draw(axes, model, model.curves.roc, _named(model, "AUROC", values))
        axes.set(xlim=(-0.01, 1), ylim=(0, 1.02))
        legend_below(figure)
        return as_svg(figure)


def class_precision_recall(models: Sequence[MulticlassModel], label: int, prevalence: float) -> str:
    """Precision over recall of one class against the rest.

    Args:
        models: to be drawn.
        label: class index.
        prevalence: share of the class among the rows, the precision of guessing.
    """
    with our_style():
        figure, axes = new_axes("recall (share of the class found)", "precision")
        axes.axhline(prevalence, color=FAINT, linewidth=1, label=f"guessing ({prevalence:.3f})")
        for model in models:
            values = {model.row_name: model.curves.average_precision[label]}
            _draw(axes, model, model.curves.precision_recall[label], _named(model, "AP", values))
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        legend_below(figure)
        return as_svg(figure)


def reliability(
    models: Sequence[AnyModel],
    values: Mapping[str, float],
    xlabel: str = "mean probability of a bin",
    ylabel: str = "share of the outnumbered class",
) -> str:
    """Observed share over mean probability, a point a bin of equal mass; ``values`` are ECEs by row name."""
    with our_style():
        figure, axes = new_axes(xlabel, ylabel)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, label="perfectly calibrated")
        for model in models:
            band = model.curves.reliability
            colour = COLOURS[model.role]
            errors = np.clip(np.stack([band.y - band.low, band.high - band.y]), 0.0, None)
            axes.errorbar(band.x, band.y, errors, fmt="none", ecolor=colour, alpha=0.45, linewidth=1.2)
            axes.plot(
                band.x,
                band.y,
                color=colour,
                linestyle=_DASHES[model.role],
                linewidth=1.2,
                marker="o",
                markersize=4,
                label=_named(model, "ECE", values),
            )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        legend_below(figure)
        return as_svg(figure)


def cost(models: Sequence[Model], prior: float) -> str:
    """Normalised expected cost over probability-cost, with the two trivial decisions (Drummond & Holte)."""
    with our_style():
        figure, axes = new_axes(
            "probability-cost of the outnumbered class\n(right: misses are dear)", "normalised expected cost"
        )
        axes.plot([0, 0.5, 1], [0, 0.5, 0], color=FAINT, linewidth=1, label="flag none (left), all (right)")
        axes.axvline(prior, color=FAINT, linewidth=1, linestyle=":", label="equal costs at the prior")
        for model in models:
            _draw(axes, model, model.curves.cost, model.name)
        highest = max(float(model.curves.cost.high.max()) for model in models)
        axes.set(xlim=(0, 1), ylim=(0, min(1.0, max(0.55, 1.05 * highest))))
        legend_below(figure)
        return as_svg(figure)


def decision(models: Sequence[Model], prior: float) -> str:
    """Net benefit over the threshold probability, beside flagging all and none (Vickers & Elkin)."""
    with our_style():
        figure, axes = new_axes(
            "threshold probability\n(cost of a false alarm / cost of both errors)", "net benefit"
        )
        all_flagged = net_benefit_of_flagging_all(THRESHOLDS, prior)
        axes.plot(THRESHOLDS, all_flagged, color=FAINT, linewidth=1, label="flag all")
        axes.axhline(0.0, color="#222222", linewidth=1, label="flag none")
        for model in models:
            _draw(axes, model, model.curves.net_benefit, model.name)
        axes.set(xlim=(0, 1), ylim=(-0.25 * prior, 1.08 * prior))
        legend_below(figure)
        return as_svg(figure)


def histogram(model: Model, labels: LabelArray) -> str:
    """Probabilities per class, each class in shares of its own rows, with the threshold."""
    return _histogram(model.p_minority, labels, "other class", model.threshold)


def minority_histogram(model: MulticlassModel, labels: LabelArray) -> str:
    """Probabilities of the last of K classes, in its own rows and in all others."""
    is_minority = (labels == model.p.shape[1] - 1).astype(np.int64)
    # Which class is decided depends on all K probabilities: there is no one threshold to draw.
    return _histogram(model.p[:, -1], is_minority, "other classes", threshold=None)


def _histogram(p_minority: Float64Array, labels: LabelArray, others: str, threshold: float | None) -> str:
    edges = np.linspace(0.0, 1.0, _HISTOGRAM_BINS + 1)
    with our_style():
        figure, axes = new_axes("probability of the outnumbered class", "share of the class (%)")
        for label, colour, name in ((0, MAJORITY, others), (1, MINORITY, "outnumbered class")):
            p = p_minority[labels == label]
            shares = 100.0 * np.histogram(p, edges)[0] / len(p)
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.4)
            axes.stairs(shares, edges, color=colour, linewidth=1.6, label=name)
        if threshold is not None:
            name = f"threshold ({threshold:.3g})"
            axes.axvline(threshold, color="#222222", linewidth=1.2, linestyle="--", label=name)
        axes.set(xlim=(0, 1))
        legend_below(figure)
        return as_svg(figure)


def differences(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Paired differences from the baseline with their intervals, best first.

    Args:
        rows: compared rows of the comparison table, in the order to be drawn.
        metric: which of their metrics.
    """
    with our_style():
        figure = Figure(figsize=(4.6, 0.9 + 0.25 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            estimate, low, high = row["minus_baseline"][metric]
            colour = _VERDICT_COLOURS.get(row["verdict"], "#555555")
            shown = row["verdict"] in _VERDICT_COLOURS
            axes.plot([low, high], [place, place], color=colour, linewidth=2.4 if shown else 1.4)
            axes.plot(estimate, place, "o", color=colour, markerfacecolor=colour if shown else "white")
        axes.axvline(0.0, color="#222222", linewidth=1)
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("difference from the calibrated baseline")
        axes.locator_params(axis="x", nbins=6)
        return as_svg(figure)


def _named(model: AnyModel, metric: str, values: Mapping[str, float]) -> str:
    return f"{model.name} ({metric} {values[model.row_name]:.3f})"
