"""From a report's content to one HTML file's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reporting import figures
from reporting.content import Gallery, M, MaskedPicture, Model, Report
from reporting.pictures import SIDE, at_shown_size, heat_scale, jpeg_uri, outlined, overlay, svg_uri
from reporting.templating import page_style, template_environment
from reporting.wording import (
    HEADINGS,
    HIGHER_IS_BETTER,
    TABLE,
    best_first,
    confusion,
    headline,
    spoken,
    values_of,
)


@dataclass(frozen=True)
class Drawing:
    """A figure as the template wants it."""

    title: str
    uri: str
    alt: str
    caption: str
    is_wide: bool = False


def render(report: Report[Model]) -> str:
    """Return the page of two classes: one HTML file that needs neither network nor script."""
    found, sentences = headline(report)
    return fill_template(
        "page.html",
        report,
        found=found,
        sentences=sentences,
        columns=TABLE,
        curves=_curve_figures(report),
        histograms=_histograms(report),
        confusions=[(model, confusion(report, model)) for model in report.models],
        others=[name for name in report.facts["classes"] if name != report.minority],
    )


def fill_template(template: str, report: Report[M], **context: Any) -> str:
    """The text of a page, with what all pages show.

    All texts are escaped by the template; only our own style sheet goes in as it is.

    Args:
        template: its file name.
        report: what is shown.
        context: what only this template needs.
    """
    return (
        template_environment()
        .get_template(template)
        .render(
            report=report,
            style=page_style(),
            metric=report.comparison["metric"],
            headings=HEADINGS,
            directions=HIGHER_IS_BETTER,
            rows=best_first(report.comparison),
            difference_figure=_difference_figure(report),
            galleries=_galleries(report),
            masked=_masked_pictures(report),
            side=SIDE,
            **context,
        )
    )


def _difference_figure(report: Report[M]) -> Drawing | None:
    """None where nothing was compared."""
    metric = report.comparison["metric"]
    compared = [row for row in best_first(report.comparison) if row["verdict"] is not None]
    if not compared:
        return None
    name = HEADINGS[metric]
    told = "; ".join(
        f"{row['name']} {row['minus_baseline'][metric][0]:+.3f}, {row['verdict']}" for row in compared
    )
    return Drawing(
        f"Difference from the calibrated baseline in {name}",
        svg_uri(figures.differences(compared, metric)),
        f"Paired differences in {name}: {told}.",
        "Paired on the same test rows. Filled and coloured: shown better (green) or worse (orange) "
        "after correction for many comparisons. An interval beside 0 with a hollow dot did not survive it.",
        is_wide=True,
    )


def _curve_figures(report: Report[Model]) -> list[Drawing]:
    models, facts = report.models, report.facts
    prior = float(facts["deployment_prior"])
    share = float(np.mean(report.labels == 1))
    precision, auroc, ece = (
        values_of(report.comparison, name) for name in ("average_precision", "auroc", "ece")
    )
    off_prior = (
        ""
        if abs(prior - share) < 1e-9
        else f" Points must lie off the diagonal here: the probabilities answer for a share of {prior:.4g}, "
        f"but {share:.4g} of the test rows are of the outnumbered class."
    )
    return [
        Drawing(
            "Precision over recall",
            svg_uri(figures.precision_recall(models, precision, share)),
            f"Precision over recall. {spoken(models, precision, 'Average precision')}",
            "The area under a curve is its average precision; guessing gives the outnumbered class's share.",
        ),
        Drawing(
            "ROC",
            svg_uri(figures.roc(models, auroc)),
            f"True positive rate over false positive rate. {spoken(models, auroc, 'AUROC')}",
            "How many are found at the price of how many false alarms, however rare the class is.",
        ),
        Drawing(
            "Reliability",
            svg_uri(figures.reliability(models, ece)),
            f"Observed share over mean probability. {spoken(models, ece, 'Expected calibration error')}",
            "Bins hold equally many rows. Where a point lies on the diagonal, a probability of 0.7 is right "
            f"in 70 of 100 cases.{off_prior}",
        ),
        Drawing(
            "Cost curve",
            svg_uri(figures.cost(models, prior)),
            "Normalised expected cost over the probability-cost of the outnumbered class; lower is better.",
            "What decisions cost, as a share of deciding always wrong, when the threshold follows from the "
            "costs of a miss and a false alarm; lower is better. To the right misses are dear, to the left "
            "false alarms.",
        ),
        Drawing(
            "Decision curve",
            svg_uri(figures.decision(models, prior)),
            "Net benefit over threshold probability; higher is better.",
            "True positives a row less what false alarms cost in true positives, where "
            f"{prior:.4g} of all images are of the outnumbered class; higher is better. A model is of use "
            "where it lies above both flagging all and flagging none.",
        ),
    ]


def _histograms(report: Report[Model]) -> list[Drawing]:
    brier = values_of(report.comparison, "brier")
    return [
        Drawing(
            f"Probabilities: {model.name}",
            svg_uri(figures.histogram(model, report.labels)),
            f"Histogram of the probabilities that {model.name} gives, for each class, with its threshold at "
            f"{model.threshold:.3g}.",
            f"Brier {brier[model.row_name]:.3f}. Right of the dashed line is flagged.",
        )
        for model in report.models
    ]


def _galleries(report: Report[M]) -> list[tuple[Gallery, list[dict[str, Any]]]]:
    """Each gallery with its pictures as data URIs; all heat maps share one scale."""
    maps = [p.heat for gallery in report.galleries for p in gallery.pictures if p.heat is not None]
    scale = heat_scale(maps) if maps else (0.0, 1.0)
    return [
        (
            gallery,
            [
                {
                    "path": each.path,
                    "p": each.p_minority,
                    "decided": each.decided,
                    "image": jpeg_uri(each.pixels),
                    "heat": None if each.heat is None else jpeg_uri(overlay(each.pixels, each.heat, scale)),
                }
                for each in gallery.pictures
            ],
        )
        for gallery in report.galleries
    ]


def _masked_pictures(report: Report[M]) -> list[tuple[MaskedPicture, str, str]]:
    """Each example with its image and its map as data URIs, the mask outlined in both."""
    pictures = report.localised.pictures if report.localised else ()
    scale = heat_scale(each.heat for each in pictures) if pictures else (0.0, 1.0)
    return [
        (
            each,
            jpeg_uri(outlined(at_shown_size(each.pixels), each.mask)),
            jpeg_uri(outlined(overlay(each.pixels, each.heat, scale), each.mask)),
        )
        for each in pictures
    ]
