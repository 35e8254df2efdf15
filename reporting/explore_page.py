"""The page of an explored data set: one HTML file that needs neither network nor script."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from reporting.drawing import Drawing
from reporting.templating import page_style, template_environment

_QUALITY = 84


@dataclass(frozen=True)
class Sheet:
    """A contact sheet: the class, how many images it has, the files shown, row by row, and the picture."""

    label: str
    is_minority: bool
    total: int
    names: Sequence[str]
    uri: str


@dataclass(frozen=True)
class Outlier:
    """A row that lies far from its class: its number on the map, file, what is said of it, and picture."""

    number: int
    path: str
    words: str
    uri: str


@dataclass(frozen=True)
class Outliers:
    """The outliers of one class, the farthest first."""

    label: str
    rows: Sequence[Outlier]


@dataclass(frozen=True)
class FeatureMap:
    """The embedding map: what it is, colour, letter and name of each class, the figure, the outliers."""

    sentence: str
    legend: Sequence[tuple[str, str, str]]
    figure: Drawing
    outliers: Sequence[Outliers]


@dataclass(frozen=True)
class SlidePicture:
    """A picture of a slide."""

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class ShownSlide:
    """A slide: whose it is, what is on it, and its pictures."""

    name: str
    words: str
    pictures: Sequence[SlidePicture]


@dataclass(frozen=True)
class ExplorePage:
    """All that the page shows; texts may be hostile, the template escapes them.

    Attributes:
        dataset: name of the data set.
        title: for people.
        headline: the one sentence that a reader should take along.
        notes: what was left out, and why.
        counts: one row per class: label, is_minority, train, test, broken, excluded, dropped.
        subtypes: one row per kind: label, train, test; empty where there are none.
        groups: the largest groups: group, images, minority, split; empty where every image stands for itself.
        groups_sentence: how many there are.
        groups_figure: all of them.
        sheets: contact sheets.
        has_masks: whether masks are outlined on them.
        sizes_sentence: the commonest sizes.
        figures: sizes and grey values.
        map: the embedding map, or None.
        slides: reconstructed slides.
        slides_sentences: what is drawn, and where probabilities come from.
    """

    dataset: str
    title: str
    headline: str
    notes: Sequence[str]
    counts: Sequence[dict[str, Any]]
    subtypes: Sequence[dict[str, Any]]
    sizes_sentence: str
    figures: Sequence[Drawing]
    groups: Sequence[dict[str, Any]] = ()
    groups_sentence: str = ""
    groups_figure: Drawing | None = None
    sheets: Sequence[Sheet] = ()
    has_masks: bool = False
    map: FeatureMap | None = None
    slides: Sequence[ShownSlide] = field(default=())
    slides_sentences: Sequence[str] = ()


def render_explored(page: ExplorePage) -> str:
    """The text of the page; every text of it is escaped, and control characters become visible."""
    return template_environment().get_template("explore.html").render(page=page, style=page_style())


def jpeg_of(picture: Image.Image) -> str:
    """A picture at its own size as the source of an image."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
