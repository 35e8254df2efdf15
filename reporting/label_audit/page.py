"""The page of the label audit: one HTML file without network, answered by keys, with one script of ours."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from reporting.templating import page_style, template_environment

_SCRIPT = Path(__file__).parents[1] / "templates" / "audit.js"


@dataclass(frozen=True)
class DoubtedLabel:
    """An image whose label is to be answered for.

    Attributes:
        rank: from 1.
        path: printable; still hostile to HTML, which the template escapes.
        sha256: of its bytes, by which the answer names it.
        label: that training saw.
        suggested: class that the models prefer.
        contradicted: whether the label is contradicted on the whole.
        p_label: probability of the label; None without labelled minority images.
        p_suggested: the same of the suggested class.
        p_normal: share of normal images that look at least as odd; None with labelled minority images.
        members: that prefer the suggested class, and how many there are; the first is None without labels.
        neighbours: of the 10 most similar images, those of the suggested class; None without labels.
        jpeg: a small picture; None where the file cannot be decoded any more.
    """

    rank: int
    path: str
    sha256: str
    label: str
    suggested: str
    contradicted: bool
    p_label: float | None
    p_suggested: float | None
    p_normal: float | None
    members: tuple[int | None, int]
    neighbours: int | None
    jpeg: bytes | None

    @property
    def uri(self) -> str:
        """The picture as the source of an image."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg or b'').decode('ascii')}"


@dataclass(frozen=True)
class Section:
    """Images of one kind of possible mistake.

    Attributes:
        title: the heading.
        sentence: what they are.
        frames: near copies share a frame.
    """

    title: str
    sentence: str
    frames: Sequence[Sequence[DoubtedLabel]]


@dataclass(frozen=True)
class AuditPage:
    """Everything that the page shows.

    Attributes:
        dataset: its name.
        recipe: its name.
        classes: K names, the minority last.
        labelled: whether there are labelled minority images.
        sentences: what is listed and what is not.
        sections: in the order of the list.
        more: listed images that are not shown.
        confirm: command that takes the answers.
        next_command: command that trains with them.
        corrections: file that keeps them.
    """

    dataset: str
    recipe: str
    classes: Sequence[str]
    labelled: bool
    sentences: Sequence[str]
    sections: Sequence[Section]
    more: int
    confirm: str
    next_command: str
    corrections: str

    @property
    def count(self) -> int:
        """Images that are shown."""
        return sum(len(frame) for section in self.sections for frame in section.frames)


def render_audit(page: AuditPage) -> str:
    """Return the page. All texts are escaped by the template; our style and script go in as they are.

    A browser runs that script and no other: the page names its digest, so that nothing in a file name could
    run even if it were not escaped.
    """
    script = _SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        template_environment()
        .get_template("audit.html")
        .render(page=page, style=page_style(), script=Markup(script), script_digest=digest)
    )
