"""The page of ``monitor``: one HTML file that needs neither network nor script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reporting.drawing import Drawing
from reporting.monitor import figures
from reporting.pictures import svg_uri
from reporting.templating import page_style, template_environment

_MOST_QUANTITIES = 6


def render_monitor(document: Mapping[str, Any]) -> str:
    """The text of the page; every text of ``document`` is escaped.

    Args:
        document: of ``monitor --json``.
    """
    return (
        template_environment()
        .get_template("monitor.html")
        .render(monitor=document, style=page_style(), charts=_charts(document))
    )


def _charts(document: Mapping[str, Any]) -> list[Drawing]:
    """Share of the minority, what changed most, and calibration."""
    batches, minority = document["batches"], document["minority"]
    charts = []
    if any(batch["share"]["figure"] for batch in batches):
        told = "; ".join(
            f"{batch['scored']}: {batch['share']['figure']['value']:.3f}"
            for batch in batches
            if batch["share"]["figure"]
        )
        charts.append(
            Drawing(
                f"Share of {minority}",
                svg_uri(figures.shares(batches, minority)),
                f"Estimated share of {minority} by batch. {told}.",
                "Dots are estimates, bars their 95 % intervals. No dot: no figure; the table says why.",
            )
        )
    for name, title in _most_changed(batches):
        charts.append(
            Drawing(
                title[:1].upper() + title[1:],
                svg_uri(figures.medians(batches, name, title)),
                f"Median of {title} by batch, and in training.",
                "Medians of batches, beside that of training.",
            )
        )
    if document["calibration"] is not None:
        charts.append(
            Drawing(
                "Do probabilities hold?",
                svg_uri(figures.evidence(document["calibration"])),
                document["calibration"]["sentence"],
                "Evidence that the minority is more, or less, frequent among answered images than said.",
            )
        )
    return charts


def _most_changed(batches: figures.Batches) -> list[tuple[str, str]]:
    """Name and title of the quantities with the smallest p in any batch; most changed first."""
    least: dict[tuple[str, str], tuple[float, float]] = {}
    for batch in batches:
        for change in batch["changes"]:
            key, found = (change["name"], change["title"]), (change["p"], -change["distance"])
            least[key] = min(least.get(key, found), found)
    return sorted(least, key=lambda key: least[key])[:_MOST_QUANTITIES]
