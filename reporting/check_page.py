"""The page of a check: one HTML file that needs neither network nor script."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reporting.templating import page_style, template_environment


@dataclass(frozen=True)
class CheckPicture:
    """A file that is shown.

    Attributes:
        path: of the file, printable; still hostile to HTML, which the template escapes.
        caption: what is said of it.
        jpeg: a small picture; None where the file cannot be decoded.
    """

    path: str
    caption: str
    jpeg: bytes | None

    @property
    def uri(self) -> str:
        """The picture as the source of an image."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg or b'').decode('ascii')}"


@dataclass(frozen=True)
class CheckSection:
    """Pictures under one heading.

    Attributes:
        title: the heading.
        sentence: what the pictures are.
        frames: pictures that belong together share a frame.
        more: frames that are not shown.
        unit: what a frame is, in the plural.
        code: a rule or command to be copied; empty for none.
    """

    title: str
    sentence: str
    frames: Sequence[Sequence[CheckPicture]]
    more: int
    unit: str
    code: str = ""


def render_check(
    document: dict[str, Any], problems: Mapping[Any, list[dict[str, Any]]], sections: Sequence[CheckSection]
) -> str:
    """The text of the page; every text of ``document`` is escaped.

    Args:
        document: of ``check --json``.
        problems: outcome → its points, the worst outcome first; texts printable or not.
        sections: with pictures.
    """
    return (
        template_environment()
        .get_template("check.html")
        .render(
            check=document,
            problems=problems,
            sections=sections,
            style=page_style(),
        )
    )
