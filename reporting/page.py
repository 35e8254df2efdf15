"""From a report's content to one HTML file's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.metrics import METRICS
from reporting.content import (
    KIND_COLUMNS,
    Gallery,
    KindTables,
    Localised,
    MaskedPicture,
    Model,
    Moved,
    Report,
    Stability,
)
from reporting.in_use.curve import review_curves
from reporting.learning_curve import learning_curves
from reporting.page_figures import (
    calibration_figures,
    class_curves,
    curve_figures,
    difference_figure,
    histograms,
)
from reporting.pictures import SIDE, at_shown_size, heat_scale, jpeg_uri, outlined, overlay
from reporting.templating import page_style, template_environment
from reporting.wording import best_first, confusion_matrix, headline

MOST_COLUMNS = 20
"""Classes up to which a confusion matrix is shown whole; of more, the most frequent confusions."""

_MOST_CONFUSIONS = 3

_DARKEST = 55.0  # % of the colour, which black text still stands out from


@dataclass(frozen=True)
class _Cell:
    """A cell of a confusion matrix; percentages are of its row, or of the colour.

    Attributes:
        word: what the count means for two classes, such as ``false alarms``; empty for more.
    """

    count: int
    percent: float
    darkness: float
    is_right: bool
    word: str


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


def render(report: Report) -> str:
    """Return the report: one HTML file that needs neither network nor script.

    All texts are escaped by the template; only our own style sheet goes in as it is.
    """
    found, sentences = headline(report)
    rows = best_first(report.comparison)
    two = report.has_two_classes
    # The minority first, as in the words "found, missed".
    order = [1, 0] if two else list(range(len(report.classes)))
    is_whole = len(report.classes) <= MOST_COLUMNS
    return (
        template_environment()
        .get_template("page.html")
        .render(
            report=report,
            style=page_style(),
            found=found,
            sentences=sentences,
            metric=METRICS[report.comparison["metric"]],
            columns=[metric for name, metric in METRICS.items() if name in rows[0]["intervals"]],
            rows=rows,
            difference_figure=difference_figure(report),
            recalls=[] if two else _recalls(report),
            kinds=KindTables.of(report.comparison),
            kind_columns=KIND_COLUMNS,
            curves=curve_figures(report) if two else [],
            class_curves=[] if two else class_curves(report),
            calibration=[] if two else calibration_figures(report),
            histograms=histograms(report) if two else [],
            order=order,
            is_whole=is_whole,
            decisions=[
                (model, _confusion(report, model, order) if is_whole else _confusions(report, model))
                for model in report.models
            ],
            galleries=_galleries(report),
            masked=masked_pictures(report.localised),
            moved=moved_pictures(report.stability),
            learning_curves=learning_curves(report.learning_curve) if report.learning_curve else [],
            review_curves=review_curves(report.in_use["triage"]) if report.in_use else [],
            side=SIDE,
        )
    )


def _recalls(report: Report) -> list[dict[str, Any]]:
    """One line per class: recall of baseline and ensemble, and their paired difference, with intervals."""
    row_of = {
        row["kind"]: row for row in report.comparison["rows"] if row["kind"] in {"baseline", "ensemble"}
    }
    return [
        {
            "name": report.classes[label],
            "baseline": row_of["baseline"]["per_class_recall"][report.classes[label]],
            "ensemble": row_of["ensemble"]["per_class_recall"][report.classes[label]],
            "difference": row_of["ensemble"]["per_class_recall_minus_baseline"][report.classes[label]],
        }
        for label in report.rarest_first()
    ]


def _confusion(report: Report, model: Model, order: list[int]) -> list[tuple[str, list[_Cell]]]:
    """One line per true class. Darkness goes with the root of the share, so that rare confusions show.

    Args:
        report: whose test rows.
        model: whose decisions.
        order: of the classes, down and across.
    """
    counts = confusion_matrix(report, model)[np.ix_(order, order)]
    # By row: of each true class, what became of it.
    shares = counts / counts.sum(axis=1, keepdims=True)
    two = report.has_two_classes
    words = [["found", "missed"], ["false alarms", "true negatives"]]  # the minority comes first
    return [
        (
            report.classes[label],
            [
                _Cell(
                    count=int(counts[i, j]),
                    percent=100.0 * share,
                    darkness=_DARKEST * float(np.sqrt(share)),
                    is_right=i == j,
                    word=words[i][j] if two else "",
                )
                for j, share in enumerate(shares[i].tolist())
            ],
        )
        for i, label in enumerate(order)
    ]


def _confusions(report: Report, model: Model) -> list[_Line]:
    """One line per true class, the rarest in training first."""
    counts, names = confusion_matrix(report, model), report.classes
    lines = []
    for label in report.rarest_first():
        row, n_rows = counts[label], max(1, int(counts[label].sum()))
        by_count = np.argsort(-row, kind="stable")
        wrong = [int(other) for other in by_count if other != label and row[other]][:_MOST_CONFUSIONS]
        taken_for = [(names[other], int(row[other]), 100.0 * row[other] / n_rows) for other in wrong]
        lines.append(_Line(names[label], n_rows, 100.0 * row[label] / n_rows, taken_for))
    return lines


def _galleries(report: Report) -> list[tuple[Gallery, list[dict[str, Any]]]]:
    """Each gallery with its pictures as data URIs; all heat maps share one scale."""
    maps = [p.heat for gallery in report.galleries for p in gallery.pictures if p.heat is not None]
    scale = heat_scale(maps) if maps else (0.0, 1.0)
    return [
        (
            gallery,
            [
                {
                    "path": each.path,
                    "p": each.probability,
                    "decided": each.decided,
                    "image": jpeg_uri(each.pixels),
                    "heat": None if each.heat is None else jpeg_uri(overlay(each.pixels, each.heat, scale)),
                }
                for each in gallery.pictures
            ],
        )
        for gallery in report.galleries
    ]


def moved_pictures(stability: Stability | None) -> list[tuple[Moved, str, str]]:
    """Each image that moved, before and after its change, as data URIs."""
    pictures = stability.pictures if stability else ()
    return [(each, jpeg_uri(each.pixels), jpeg_uri(each.changed_pixels)) for each in pictures]


def masked_pictures(localised: Localised | None) -> list[tuple[MaskedPicture, str, str]]:
    """Each example with its image and its map as data URIs, the mask outlined in both."""
    pictures = localised.pictures if localised else ()
    scale = heat_scale(each.heat for each in pictures) if pictures else (0.0, 1.0)
    return [
        (
            each,
            jpeg_uri(outlined(at_shown_size(each.pixels), each.mask)),
            jpeg_uri(outlined(overlay(each.pixels, each.heat, scale), each.mask)),
        )
        for each in pictures
    ]
