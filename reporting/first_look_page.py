"""The page of a run without labels: what to look at first, and what such a run can promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contracts.regime import Regime
from contracts.rows import FloatArray, ImageArray
from evaluation.rows import Float64Array
from reporting.content import Localised, Origin, Stability
from reporting.drawing import Drawing
from reporting.figures import score_histogram
from reporting.page import masked_pictures, moved_pictures
from reporting.pictures import SIDE, heat_scale, jpeg_uri, overlay, svg_uri
from reporting.templating import page_style, template_environment


@dataclass(frozen=True)
class LookedAt:
    """An image of the list.

    Attributes:
        rank: from 1.
        path: relative to the data set's root; hostile text.
        score: the mean of standardised scores, out of fold.
        p_normal: share of normal images that look at least as odd.
        decided: whether it is decided not to be normal.
        copies: near copies that it stands for, without itself.
        like: rank of the image before it that it resembles most; None where none is much like it.
        pixels: ``[S, S, 3]`` uint8 RGB as the models see it; None without pictures.
        heat: ``[g, g]`` evidence on the patch grid; None where no member has a map, and without pictures.
    """

    rank: int
    path: str
    score: float
    p_normal: float
    decided: bool
    copies: int
    like: int | None
    pixels: ImageArray | None
    heat: FloatArray | None


@dataclass(frozen=True)
class FirstLookPage:
    """Everything that the page shows.

    Attributes:
        dataset: its name.
        recipe: its name.
        title: of the data set, for people.
        source: where the images come from.
        licence: of the images.
        regime: ``normal_only`` or ``unlabelled``.
        minority: name of the class that nothing is known of.
        promises: sentences on what the run can do without labels.
        sentences: of the fitted ensemble: fusion, p_normal, threshold.
        scores: ``[N]`` out-of-fold scores of all training images.
        limit: score above which the minority is decided.
        alpha: share of false alarms that the limit stands for.
        flagged: training images above it.
        members: names of the members whose mean the score is.
        images: what to look at, the first one first.
        heat_source: where the maps come from; empty where there are none.
        label_commands: ``(what for, command line)``, how to give labels.
        facts: counts and folds, as ``data_facts`` of workflow gives them.
        left_out_images: status → first few ``(path, reason)`` of images that stay out.
        origin: how to make it again.
        localised: how well the map finds what masks mark; None where the data set has no masks.
        stability: of the ensemble.
    """

    dataset: str
    recipe: str
    title: str
    source: str
    licence: str
    regime: Regime
    minority: str
    promises: Sequence[str]
    sentences: Sequence[str]
    scores: Float64Array
    limit: float
    alpha: float
    flagged: int
    members: Sequence[str]
    images: Sequence[LookedAt]
    heat_source: str
    label_commands: Sequence[tuple[str, str]]
    facts: Mapping[str, Any]
    left_out_images: Mapping[str, Sequence[tuple[str, str]]]
    origin: Origin
    localised: Localised | None = None
    stability: Stability | None = None

    @property
    def has_pictures(self) -> bool:
        """Whether images of the data set are shown."""
        return any(each.pixels is not None for each in self.images)


def render_first_look(report: FirstLookPage) -> str:
    """Return the page: one HTML file that needs neither network nor script.

    All texts are escaped by the template; only our own style sheet goes in as it is.
    """
    return (
        template_environment()
        .get_template("first_look.html")
        .render(
            report=report,
            style=page_style(),
            histogram=_histogram(report),
            images=_pictures(report),
            masked=masked_pictures(report.localised),
            moved=moved_pictures(report.stability),
            side=SIDE,
        )
    )


def _histogram(report: FirstLookPage) -> Drawing:
    low, middle, high = np.quantile(report.scores, [0.0, 0.5, 1.0])
    return Drawing(
        "Scores of all training images",
        svg_uri(score_histogram(report.scores, report.limit)),
        f"Histogram of {len(report.scores):,} scores from {low:.3g} to {high:.3g}, median {middle:.3g}; the "
        f"limit is {report.limit:.3g}, and {report.flagged:,} lie above it.",
        "Each image is scored by members that did not learn from it. About 0 is usual, 1 is one standard "
        "deviation of normal images above it. Images right of the limit are decided "
        f"“{report.minority}”. A second hump on the right would be a kind of its own.",
        is_wide=True,
    )


def _pictures(report: FirstLookPage) -> list[tuple[LookedAt, str, str]]:
    """Each image with its picture and its map as data URIs, empty where there is none; one scale for all."""
    maps = [each.heat for each in report.images if each.heat is not None]
    scale = heat_scale(maps) if maps else (0.0, 1.0)
    return [
        (
            each,
            "" if each.pixels is None else jpeg_uri(each.pixels),
            ""
            if each.pixels is None or each.heat is None
            else jpeg_uri(overlay(each.pixels, each.heat, scale)),
        )
        for each in report.images
    ]
