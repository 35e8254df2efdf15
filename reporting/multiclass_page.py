"""From the content of a report on K > 2 classes to one HTML file's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reporting import figures
from reporting.content import MulticlassModel, Report
from reporting.page import Drawing, fill_template
from reporting.pictures import svg_uri
from reporting.wording import MULTICLASS_TABLE, confusion_matrix, multiclass_headline, spoken, values_of

MOST_CURVES = 12
"""Classes whose curves are drawn, the rarest ones; pages of a hundred curves are read by nobody."""

MOST_COLUMNS = 20
"""Classes up to which a confusion matrix is shown whole; of more, what each is taken for most often."""

_TAKEN_FOR = 3

_DARKEST = 55.0  # % of the colour, which black text still stands out from


@dataclass(frozen=True)
class _Cell:
    """A cell of a confusion matrix; percentages are of its line, or of the colour."""

    count: int
    percent: float
    darkness: float
    is_right: bool


@dataclass(frozen=True)
class _Line:
    """What became of a class's test images; percentages are of them.

    Attributes:
        name: the true class.
        count: its test images.
        right_percent: how many were recognised.
        taken_for: ``(class, count, percent)`` of the classes most often decided instead, most often first.
    """

    name: str
    count: int
    right_percent: float
    taken_for: list[tuple[str, int, float]]


def render_multiclass(report: Report[MulticlassModel]) -> str:
    """Return the page of K classes: one HTML file that needs neither network nor script."""
    found, sentences = multiclass_headline(report)
    is_whole = len(report.facts["classes"]) <= MOST_COLUMNS
    return fill_template(
        "page_multiclass.html",
        report,
        found=found,
        sentences=sentences,
        columns=MULTICLASS_TABLE,
        recalls=_recalls(report),
        class_curves=_class_curves(report),
        calibration=[_reliability(report), *_histograms(report)],
        is_whole=is_whole,
        decisions=[
            (model, _confusion(report, model) if is_whole else _mistakes(report, model))
            for model in report.models
        ],
    )


def rarest_first(report: Report[MulticlassModel]) -> list[int]:
    """Class indices by their training images; of equal ones the later first, as the minority is the last."""
    names, train = report.facts["classes"], report.facts["train"]
    return sorted(range(len(names)), key=lambda label: (train[names[label]], -label))


def _recalls(report: Report[MulticlassModel]) -> list[dict[str, Any]]:
    """A line a class: recall of baseline and ensemble, and their paired difference, with intervals."""
    row_of = {
        row["kind"]: row for row in report.comparison["rows"] if row["kind"] in {"baseline", "ensemble"}
    }
    names = report.facts["classes"]
    return [
        {
            "name": names[label],
            "baseline": row_of["baseline"]["per_class_recall"][names[label]],
            "ensemble": row_of["ensemble"]["per_class_recall"][names[label]],
            "difference": row_of["ensemble"]["per_class_recall_minus_baseline"][names[label]],
        }
        for label in rarest_first(report)
    ]


def _class_curves(report: Report[MulticlassModel]) -> list[Drawing]:
    drawings = []
    for label in rarest_first(report)[:MOST_CURVES]:
        name = report.facts["classes"][label]
        n_train, n_test = report.facts["train"][name], int(np.sum(report.labels == label))
        told = ", ".join(f"{m.name} {m.curves.average_precision[label]:.3f}" for m in report.models)
        drawings.append(
            Drawing(
                name,
                svg_uri(figures.class_precision_recall(report.models, label, n_test / len(report.labels))),
                f"Precision over recall of “{name}” against the rest. Average precision: {told}.",
                f"{n_train:,} training images, {n_test:,} held out.",
            )
        )
    return drawings


def _reliability(report: Report[MulticlassModel]) -> Drawing:
    ece = values_of(report.comparison, "ece")
    return Drawing(
        "Reliability of the most probable class",
        svg_uri(
            figures.reliability(
                report.models, ece, "mean probability of the most probable class", "share that it is right"
            )
        ),
        f"How often the most probable class is right. {spoken(report.models, ece, 'ECE')}",
        "Bins hold equally many rows. Where a point lies on the diagonal, a probability of 0.7 is right in "
        "70 of 100 cases. Thresholds can decide another class than the most probable one.",
    )


def _histograms(report: Report[MulticlassModel]) -> list[Drawing]:
    return [
        Drawing(
            f"Probability of “{report.minority}”: {model.name}",
            svg_uri(figures.minority_histogram(model, report.labels)),
            f"Histogram of the probabilities of “{report.minority}” that {model.name} gives, for its own "
            "images and for all others.",
            f"“{report.minority}” is the outnumbered class. Shares of its images and of all others.",
        )
        for model in report.models
    ]


def _confusion(report: Report[MulticlassModel], model: MulticlassModel) -> list[tuple[str, list[_Cell]]]:
    """A line a true class. Darkness goes with the root of the share, so that rare confusions show."""
    counts = confusion_matrix(report, model)
    shares = counts / counts.sum(axis=1, keepdims=True)
    return [
        (
            name,
            [
                _Cell(int(counts[i, j]), 100.0 * share, _DARKEST * float(np.sqrt(share)), i == j)
                for j, share in enumerate(shares[i].tolist())
            ],
        )
        for i, name in enumerate(report.facts["classes"])
    ]


def _mistakes(report: Report[MulticlassModel], model: MulticlassModel) -> list[_Line]:
    """A line a true class, the rarest in training first."""
    counts, names = confusion_matrix(report, model), report.facts["classes"]
    lines = []
    for label in rarest_first(report):
        row, n_rows = counts[label], max(1, int(counts[label].sum()))
        by_count = np.argsort(-row, kind="stable")
        wrong = [int(other) for other in by_count if other != label and row[other]][:_TAKEN_FOR]
        taken_for = [(names[other], int(row[other]), 100.0 * row[other] / n_rows) for other in wrong]
        lines.append(_Line(names[label], n_rows, 100.0 * row[label] / n_rows, taken_for))
    return lines
