"""What the store of answers holds, one class per table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from contracts.errors import UsageError

Answer = Literal["normal", "minority", "unsure", "skip"]
"""What a person may say of an image. ``unsure``: looked and cannot tell. ``skip``: not now, ask me later."""

ANSWERS: tuple[str, ...] = get_args(Answer)


def now() -> str:
    """This moment as entries hold it: ``2026-12-01T17:40:39.012345+00:00``."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True)
class Entry:
    """One thing that a person did; the history is a list of these.

    Attributes:
        number: ascending, without gaps that mean anything.
        image: digest.
        answer: one of :data:`ANSWERS`, or ``undo``.
        kind: of the minority, a finer name than the class, or None.
        who: the person's name as they gave it; hostile text.
        when: ISO time.
        token: chosen by whoever answered.
        undoes: number of the entry that an ``undo`` takes back; None for all others.
    """

    number: int
    image: str
    answer: str
    kind: str | None
    who: str
    when: str
    token: str
    undoes: int | None = None


class AnsweredMeanwhileError(UsageError):
    """Somebody answered about an image since the person looked who answers now.

    Attributes:
        standing: what stands by now; None where an answer was taken back.
    """

    def __init__(self, image: str, standing: Entry | None) -> None:
        what = "was taken back" if standing is None else f"is '{standing.answer}' by {standing.who}"
        super().__init__(f"image {image[:12]}: the answer {what} since you looked. Look again.")
        self.standing = standing


@dataclass(frozen=True)
class Image:
    """An image that was seen.

    Attributes:
        digest: hex SHA-256 of the file's bytes.
        name: file name as it came; hostile text, only to be shown.
        source: ``dropped``, ``http`` or ``watched``.
        place: absolute path in a watched folder; None for others.
        file: where its bytes lie now: in ``uploads/``, or else the watched file itself.
        look: perceptual hash, see :mod:`imagedata.audit.hashing`; None where it was not computed.
    """

    digest: str
    name: str
    source: str
    place: Path | None
    file: Path
    look: int | None


@dataclass(frozen=True)
class Scored:
    """What a model said of an image at a time.

    Attributes:
        image: digest.
        model: hex SHA-256 of the model's file.
        when: ISO time.
        source: ``dropped``, ``http`` or ``watched``.
        camera: camera, lot or folder that it came from; empty where nobody said.
        decision: name of the decided class.
        triage: ``PASS``, ``FAIL``, ``REVIEW``, ``NOVEL``; None where the file has none.
        probability: calibrated, of the minority, 0…1; None where the file has none.
        p_normal: conformal p-value, 0…1; None likewise.
        p_minority: likewise.
        levels: error rates of triage, prior and threshold that held, by name.
        members: member → score, higher = more like the minority.
        descriptor: a thumbnail and numbers by which images are compared (:mod:`service.likeness`), or None.
        number: of the row; 0 where it is not stored yet.
    """

    image: str
    model: str
    when: str
    source: str
    camera: str
    decision: str
    triage: str | None = None
    probability: float | None = None
    p_normal: float | None = None
    p_minority: float | None = None
    levels: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, float] = field(default_factory=dict)
    descriptor: bytes | None = None
    number: int = 0
