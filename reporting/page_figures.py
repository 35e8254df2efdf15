"""The report's figures with their titles, captions and descriptions."""

from __future__ import annotations

import numpy as np

from evaluation.metrics import METRICS
from reporting import figures
from reporting.content import Report
from reporting.drawing import Drawing
from reporting.pictures import svg_uri
from reporting.wording import best_first, spoken, values_of

MOST_CURVES = 12
"""Classes whose curves are drawn, the rarest ones; nobody reads a page of a hundred curves."""


def difference_figure(report: Report) -> Drawing | None:
    """Paired differences from the baseline; None where nothing was compared."""
    metric = METRICS[report.comparison["metric"]]
    compared = [row for row in best_first(report.comparison) if row["verdict"] is not None]
    if not compared:
        return None
    told = "; ".join(
        f"{row['name']} {row['minus_baseline'][metric.name][0]:+.3f}, {row['verdict']}" for row in compared
    )
    return Drawing(
        f"Difference from the calibrated baseline in {metric.title}",
        svg_uri(figures.differences(compared, metric.name)),
        f"Paired differences in {metric.title}: {told}.",
        "Paired on the same images. Filled and coloured: shown better (green) or worse (orange) after "
        "correction for many comparisons. An interval that excludes 0 around a hollow dot did not survive "
        "the correction.",
        is_wide=True,
    )


def curve_figures(report: Report) -> list[Drawing]:
    """Curves of two classes: of the minority, and of the costs of both kinds of error."""
    models, prior = report.models, float(report.facts["deployment_prior"])
    share, auroc = float(np.mean(report.labels == 1)), values_of(report.comparison, "auroc")
    return [
        _precision_recall(
            report,
            1,
            title="Precision over recall",
            caption="The area under a curve is its average precision; guessing gives the minority's share.",
        ),
        Drawing(
            "ROC",
            svg_uri(figures.roc(models, auroc)),
            f"True positive rate over false positive rate. {spoken(models, auroc, 'AUROC')}",
            "The share of the minority that is found, over the share of others that raise a false alarm; it "
            "does not depend on how rare the class is.",
        ),
        _reliability(report, prior, share),
        Drawing(
            "Cost curve",
            svg_uri(figures.cost(models, prior)),
            "Normalised expected cost over the probability-cost of the minority; lower is better.",
            "The cost of the decisions, as a share of the cost of deciding always wrong, when the threshold "
            "follows from the costs of a miss and of a false alarm; lower is better. Misses are costly on "
            "the right, false alarms on the left.",
        ),
        Drawing(
            "Decision curve",
            svg_uri(figures.decision(models, prior)),
            "Net benefit over threshold probability; higher is better.",
            "True positives per row minus the cost of false alarms in true positives, where "
            f"{prior:.4g} of all images are of the minority; higher is better. A model is useful where it "
            "lies above both flagging all and flagging none.",
        ),
    ]


def class_curves(report: Report) -> list[Drawing]:
    """Precision over recall of each of more than two classes, the rarest first."""
    drawings = []
    for label in report.rarest_first()[:MOST_CURVES]:
        name = report.classes[label]
        n_train, n_judged = report.facts["train"][name], int(np.sum(report.labels == label))
        drawings.append(
            _precision_recall(
                report,
                label,
                title=name,
                caption=f"{n_train:,} training images"
                + ("." if report.is_cross_validated else f", {n_judged:,} test images."),
            )
        )
    return drawings


def calibration_figures(report: Report) -> list[Drawing]:
    """Reliability and histograms of more than two classes."""
    return [_reliability(report), *histograms(report)]


def histograms(report: Report) -> list[Drawing]:
    """Probabilities of the minority by each model, of its own images and of all others."""
    brier = values_of(report.comparison, "brier")
    drawings = []
    for model in report.models:
        alt = (
            f"Histogram of the probabilities of “{report.minority}” that {model.name} gives, for its own "
            "images and for all others"
        )
        if model.threshold is None:
            alt += "."
            caption = f"“{report.minority}” is the minority class. Shares of its images and of all others."
        else:
            alt += f", with its threshold at {model.threshold:.3g}."
            caption = f"Brier score {brier[model.row_name]:.3f}. Images right of the dashed line are flagged."
        drawings.append(
            Drawing(
                f"Probability of “{report.minority}”: {model.name}",
                svg_uri(figures.histogram(model, report.labels)),
                alt,
                caption,
            )
        )
    return drawings


def _precision_recall(report: Report, label: int, title: str, caption: str) -> Drawing:
    models, prevalence = report.models, float(np.mean(report.labels == label))
    # The table of two classes holds the same figure, as a mean over repeats where there are several.
    if report.has_two_classes:
        values = values_of(report.comparison, "average_precision")
    else:
        values = {model.row_name: model.curves.average_precision[label] for model in models}
    return Drawing(
        title,
        svg_uri(figures.precision_recall(models, label, values, prevalence)),
        f"Precision over recall of “{report.classes[label]}” against the rest. "
        f"{spoken(models, values, 'Average precision')}",
        caption,
    )


def _reliability(report: Report, prior: float | None = None, share: float | None = None) -> Drawing:
    """Reliability of the minority's probability, or of the most probable of more than two classes.

    Args:
        report: whose models.
        prior: of two classes, the share of the minority that the probabilities answer for.
        share: of the minority among the rows that figures stand on.
    """
    ece = values_of(report.comparison, "ece")
    calibrated = (
        "Bins hold equally many rows. Where a point lies on the diagonal, a probability of 0.7 is right in "
        "70 of 100 cases."
    )
    if prior is None or share is None:
        svg = figures.reliability(
            report.models, ece, "mean probability of the most probable class", "share that it is right"
        )
        title = "Reliability of the most probable class"
        alt = f"How often the most probable class is right. {spoken(report.models, ece, 'ECE')}"
        caption = f"{calibrated} Thresholds can decide another class than the most probable one."
    else:
        svg = figures.reliability(
            report.models, ece, "mean probability of a bin", "share of the minority class"
        )
        title = "Reliability"
        alt = (
            "Observed share over mean probability. "
            f"{spoken(report.models, ece, 'Expected calibration error')}"
        )
        caption = calibrated
        # Test sets are often balanced while the prior is rare; without this sentence a well calibrated model
        # would look wrong.
        if abs(prior - share) >= 1e-9:
            caption += (
                f" Probabilities and Brier score are taken at these images' own share of the minority, "
                f"{share:.4g}; in deployment, probabilities are made for {prior:.4g}."
            )
    return Drawing(title, svg_uri(svg), alt, caption)
