"""What all pages are filled in with: our templates, their filters, and one style sheet."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from contracts.text import printable
from reporting.in_use.tables import (
    IN_USE,
    TRIAGE,
    TRIAGE_COLUMNS,
    in_use_columns,
    in_use_rows,
    in_use_sentence,
    triage_rows,
    triage_sentences,
)
from reporting.wording import (
    STABILITY,
    STABILITY_COLUMNS,
    interval,
    probability,
    stability_rows,
    stability_sentence,
)


def template_environment() -> Environment:
    """Our templates, with every text escaped and every missing one an error."""
    environment = Environment(
        loader=PackageLoader("reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        interval=interval,
        probability=probability,
        breakable=_breakable,
        printable=_printable,
        stability_rows=stability_rows,
        stability_sentence=stability_sentence,
        in_use_columns=in_use_columns,
        in_use_rows=in_use_rows,
        in_use_sentence=in_use_sentence,
        triage_rows=triage_rows,
        triage_sentences=triage_sentences,
    )
    environment.globals.update(
        stability_title=STABILITY,
        stability_columns=STABILITY_COLUMNS,
        in_use_title=IN_USE,
        triage_title=TRIAGE,
        triage_columns=TRIAGE_COLUMNS,
    )
    return environment


def page_style() -> Markup:
    """The style sheet of all pages; our own file, and the only text that goes in unescaped."""
    return Markup((Path(__file__).parent / "templates" / "page.css").read_text(encoding="utf-8"))


def _breakable(name: str) -> Markup:
    """A name that may be broken after each underscore, and not within a word."""
    return Markup("_<wbr>").join(escape(part) for part in name.split("_"))


def _printable(text: object) -> str:
    """Control characters made visible; markup is the template's business."""
    return printable(str(text))
