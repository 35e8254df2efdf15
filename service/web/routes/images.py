"""One image: its picture, the evidence on it, what is like it, and its explanation by the run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from contracts.errors import DataError, UsageError
from imagedata.decoding.decode import read_image_bytes
from service.engine.work import DrawTask
from service.likeness import most_alike
from service.records import Entry, Image, Scored
from service.service import Service
from service.shares import Share, shares_of
from service.web.parts import page, service_of

router = APIRouter(tags=["images"])

Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]

_ALIKE = 8
_COMPARED = 5000
_FOR_GOOD = {"Cache-Control": "private, max-age=31536000, immutable"}


@dataclass(frozen=True)
class Card:
    """All that a page shows of one image.

    Attributes:
        image: the file.
        scored: what the model said last.
        standing: the answer that stands.
        shares: the members', the largest first.
        alike: other images with the answers that stand about them.
        can_explain: there is a run to explain by.
    """

    image: Image
    scored: Scored
    standing: Entry | None
    shares: list[Share]
    alike: list[tuple[Scored, Entry | None]]
    can_explain: bool


def card_of(service: Service, digest: str) -> Card:
    """Gather what is shown of an image.

    Raises:
        UsageError: no such image.
    """
    image = service.answers.image(digest)
    rows = service.answers.latest_scores(digest)
    if not rows:
        raise UsageError(f"image {digest[:12]} has no scores. Send it again.")
    others = [row for row in service.answers.latest_scores(most=_COMPARED) if row.image != digest]
    # What was not kept cannot be shown.
    near = [
        row
        for row in most_alike(rows[0], others, 3 * _ALIKE)
        if service.answers.image(row.image).file.exists()
    ]
    return Card(
        image=image,
        scored=rows[0],
        standing=service.answers.standing(digest),
        shares=shares_of(service.model.document, rows[0].members) if rows[0].model == service.digest else [],
        alike=[(row, service.answers.standing(row.image)) for row in near[:_ALIKE]],
        can_explain=service.explainer.is_there,
    )


def file_of(service: Service, digest: str) -> FilePath:
    """Where an image's bytes lie: in the store, or in a watched folder, and nowhere else.

    Raises:
        UsageError: no such image.
        DataError: it was not kept, or its watched file lies elsewhere by now.
    """
    image = service.answers.image(digest)
    is_inside = image.file.resolve().is_relative_to(service.answers.uploads.resolve())
    if not is_inside and not service.watcher.contains(image.file):
        raise DataError(f"image {digest[:12]} lies in no folder that is watched now.")
    if not image.file.is_file():
        raise DataError(f"image {digest[:12]} was not kept. Start with --keep all to keep every image.")
    return image.file


@router.get("/images/{digest}/card", response_class=HTMLResponse)
async def card(request: Request, digest: Digest) -> HTMLResponse:
    """The part of a page that shows one image."""
    found = await asyncio.to_thread(card_of, service_of(request), digest)
    return page(request, "card.html", card=found)


@router.get("/images/{digest}/draw/{what}")
async def draw(
    request: Request,
    digest: Digest,
    what: Literal["picture", "heat", "whole", "small"],
    member: str | None = None,
) -> Response:
    """A JPEG of the image, or a transparent PNG of the evidence to lay over it."""
    service = service_of(request)
    if member is not None and member not in service.model.maps_of:
        raise UsageError("no such member has a map.")
    data = await asyncio.to_thread(lambda: read_image_bytes(file_of(service, digest)))
    drawing = await asyncio.wrap_future(service.pool.draw(DrawTask(data, what, member)))
    return Response(drawing.data, media_type=drawing.media_type, headers=_FOR_GOOD)


@router.post("/images/{digest}/explanation")
async def ask(request: Request, digest: Digest) -> dict[str, Any]:
    """Ask the run for an explanation; ask again until its state is ``done`` or ``failed``."""
    service = service_of(request)
    if not service.explainer.is_there:
        raise UsageError("this service was started without --run, so there is nothing to explain by.")
    found = service.explainer.ask(digest, await asyncio.to_thread(file_of, service, digest))
    return {"state": found.state, "sentences": list(found.sentences)}


@router.get("/images/{digest}/explanation")
async def explanation(request: Request, digest: Digest) -> Response:
    """The picture of a finished explanation."""
    found = service_of(request).explainer.known(digest)
    if found is None or found.picture is None:
        raise UsageError(f"image {digest[:12]} has no finished explanation. Ask for it by POST.")
    return FileResponse(found.picture, media_type="image/png", headers=_FOR_GOOD)
