"""The report's figures as SVG text, one function per figure.

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
from evaluation.curves import THRESHOLDS, Band, TradeOffs, net_benefit_of_flagging_all
from evaluation.metrics import METRICS
from evaluation.rows import Float64Array
from reporting.content import Model, Role
from reporting.drawing import FAINT, MAJORITY, MINORITY, as_svg, legend_below, new_axes, our_style

# Okabe & Ito 2008: told apart under every common colour blindness; dashes serve print without colour.
COLOURS: dict[Role, str] = {"baseline": "#555555", "best_single": "#d55e00", "ensemble": "#0072b2"}
_DASHES: dict[Role, Any] = {"baseline": (0, (5, 2)), "best_single": (0, (1, 1.2)), "ensemble": "-"}
_VERDICT_COLOURS = {"better": "#009e73", "worse": "#d55e00"}
_HISTOGRAM_BINS = 25


def _draw(axes: Axes, model: Model, band: Band, label: str, **line: Any) -> None:
    """A curve in its band; the final model lies on top."""
    colour = COLOURS[model.role]
    front = 4 if model.role == "ensemble" else 3
    axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.14, linewidth=0, zorder=2)
    style = {"linestyle": _DASHES[model.role], "linewidth": 1.8, **line}
    axes.plot(band.x, band.y, color=colour, label=label, zorder=front, **style)


def precision_recall(
    models: Sequence[Model], label: int, values: Mapping[str, float], prevalence: float
) -> str:
    """Precision over recall of one class against the rest.

    Args:
        models: to be drawn.
        label: class index.
        values: row name → average precision.
        prevalence: share of the class among the rows, the precision of guessing.
    """
    with our_style():
        figure, axes = new_axes("recall (share of the class found)", "precision")
        axes.axhline(prevalence, color=FAINT, linewidth=1, label=f"guessing ({prevalence:.3f})")
        for model in models:
            _draw(axes, model, model.curves.precision_recall[label], _named(model, "AP", values))
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        legend_below(figure)
        return as_svg(figure)


def roc(models: Sequence[Model], values: Mapping[str, float]) -> str:
    """True positive rate over false positive rate; ``values`` are AUROCs by row name."""
    with our_style():
        figure, axes = new_axes("false positive rate", "true positive rate")
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, label="guessing (0.500)")
        for model in models:
            _draw(axes, model, _trade_offs_of(model).roc, _named(model, "AUROC", values))
        axes.set(xlim=(-0.01, 1), ylim=(0, 1.02))
        legend_below(figure)
        return as_svg(figure)


def reliability(models: Sequence[Model], values: Mapping[str, float], xlabel: str, ylabel: str) -> str:
    """Observed share over mean probability, one point per bin of equal mass.

    Args:
        models: to be drawn.
        values: row name → ECE.
        xlabel: whose probability.
        ylabel: share of what.
    """
    with our_style():
        figure, axes = new_axes(xlabel, ylabel)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, label="perfectly calibrated")
        for model in models:
            band = model.curves.reliability
            colour = COLOURS[model.role]
            # Percentiles of the replicates need not enclose the sample's own value; matplotlib refuses
            # negative bars.
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
    """Normalised expected cost over probability-cost, with the two trivial decisions (Drummond & Holte).

    Args:
        models: of two classes.
        prior: share of the minority that costs are counted at.
    """
    curves = [(model, _trade_offs_of(model).cost) for model in models]
    with our_style():
        figure, axes = new_axes(
            "probability-cost of the minority class\n(right: misses are costly)", "normalised expected cost"
        )
        axes.plot([0, 0.5, 1], [0, 0.5, 0], color=FAINT, linewidth=1, label="flag none (left), all (right)")
        axes.axvline(prior, color=FAINT, linewidth=1, linestyle=":", label="equal costs at the prior")
        for model, curve in curves:
            _draw(axes, model, curve, model.name)
        highest = max(float(curve.high.max()) for _, curve in curves)
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
            _draw(axes, model, _trade_offs_of(model).net_benefit, model.name)
        axes.set(xlim=(0, 1), ylim=(-0.25 * prior, 1.08 * prior))
        legend_below(figure)
        return as_svg(figure)


def histogram(model: Model, labels: LabelArray) -> str:
    """Probabilities of the minority, for its own rows and all others, with the threshold if there is one.

    Each side is in shares of its own rows. Of more than two classes, which one is decided depends on all
    probabilities: there is no one threshold to draw.
    """
    is_minority = labels == model.p.shape[1] - 1
    edges = np.linspace(0.0, 1.0, _HISTOGRAM_BINS + 1)
    with our_style():
        figure, axes = new_axes("probability of the minority class", "share of the class (%)")
        others = "other class" if model.p.shape[1] == 2 else "other classes"
        for chosen, colour, name in (
            (~is_minority, MAJORITY, others),
            (is_minority, MINORITY, "minority class"),
        ):
            p = model.p[chosen, -1]
            shares = 100.0 * np.histogram(p, edges)[0] / len(p)
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.4)
            axes.stairs(shares, edges, color=colour, linewidth=1.6, label=name)
        if model.threshold is not None:
            name = f"threshold ({model.threshold:.3g})"
            axes.axvline(model.threshold, color="#222222", linewidth=1.2, linestyle="--", label=name)
        axes.set(xlim=(0, 1))
        legend_below(figure)
        return as_svg(figure)


def score_histogram(scores: Float64Array, limit: float) -> str:
    """How many images have which score, with the limit above which they are decided not to be normal."""
    with our_style():
        figure, axes = new_axes("score (standard deviations above a usual image)", "images")
        edges = np.histogram_bin_edges(np.append(scores, limit), 2 * _HISTOGRAM_BINS)
        for chosen, colour, name in (
            (scores <= limit, MAJORITY, "not above the limit"),
            (scores > limit, MINORITY, "above the limit"),
        ):
            counts = np.histogram(scores[chosen], edges)[0]
            axes.stairs(counts, edges, fill=True, color=colour, alpha=0.6, label=name)
        axes.axvline(limit, color="#222222", linewidth=1.2, linestyle="--", label=f"limit ({limit:.3g})")
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


def _trade_offs_of(model: Model) -> TradeOffs:
    """The curves that exist for two classes only."""
    assert model.curves.trade_offs is not None, "cost curves of more than two classes"
    return model.curves.trade_offs


def learning_curve(sizes: Sequence[Mapping[str, Any]], name: str, found: Mapping[str, Any], more: int) -> str:
    """A figure over the number of labelled minority images, continued by some more.

    Args:
        sizes: ``images`` and, under ``name``, ``mean``, ``interval`` and ``values`` of each size.
        name: of the figure, a key of :data:`evaluation.metrics.METRICS`.
        found: ``then``, ``low`` and ``high`` of the continuation.
        more: images that it is continued by.
    """
    n_images = [size["images"] for size in sizes]
    means = [size[name]["mean"] for size in sizes]
    with our_style():
        figure, axes = new_axes("labelled images of the minority class", METRICS[name].title)
        colour = COLOURS["ensemble"]
        for size in sizes:
            values = size[name]["values"]
            axes.vlines(size["images"], *size[name]["interval"], color=colour, alpha=0.35, linewidth=1.6)
            axes.plot([size["images"]] * len(values), values, "o", color=FAINT, markersize=2.5)
        axes.plot(
            n_images,
            means,
            color=colour,
            linewidth=1.8,
            marker="o",
            markersize=4,
            label="ensemble, mean of draws",
        )
        ahead = n_images[-1] + more
        axes.plot(
            [n_images[-1], ahead],
            [found["now"], found["then"]],
            color=MINORITY,
            linewidth=1.4,
            linestyle="--",
        )
        axes.vlines(ahead, found["low"], found["high"], color=MINORITY, linewidth=1.6)
        axes.plot(
            [ahead],
            [found["then"]],
            "o",
            color=MINORITY,
            markerfacecolor="white",
            markersize=5.5,
            label=f"expected with {more} more",
        )
        axes.set_xlim(left=0)
        legend_below(figure)
        return as_svg(figure)


def _named(model: Model, metric: str, values: Mapping[str, float]) -> str:
    return f"{model.name} ({metric} {values[model.row_name]:.3f})"
