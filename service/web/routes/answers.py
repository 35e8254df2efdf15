"""What people say: answers, taking them back, and the queue of images that wait for one."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from service.records import AnsweredMeanwhileError, Entry, now
from service.service import Service
from service.web.parts import service_of

router = APIRouter(tags=["answers"])

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Token = Annotated[str, Field(min_length=8, max_length=80)]
Name = Annotated[str, Field(max_length=80)]


class NewAnswer(BaseModel):
    """An answer as the page sends it.

    Attributes:
        image: SHA-256 of the file.
        answer: what the person says.
        kind: which kind of the minority.
        who: the person.
        token: random, one per answer; sent again until it is acknowledged.
        seen: number of the answer that stood on the page; null for none. Left out: overrule what stands.
    """

    image: Digest
    answer: Literal["normal", "minority", "unsure", "skip"]
    kind: Name | None = None
    who: Name = ""
    token: Token
    seen: int | None = -1


class TakenBack(BaseModel):
    """An answer to be taken back: ``entry`` is its number."""

    image: Digest
    entry: int | None = None
    who: Name = ""
    token: Token


@router.post("/answers")
async def add(request: Request, given: NewAnswer) -> Any:
    """Record an answer. It is on disk when this returns; the same token again changes nothing."""
    service = service_of(request)
    try:
        entry = await asyncio.to_thread(_add, service, given)
    except AnsweredMeanwhileError as error:
        standing = None if error.standing is None else asdict(error.standing)
        return JSONResponse({"error": str(error), "standing": standing}, 409)
    service.metrics.add("answers", answer=given.answer)
    return {"entry": asdict(entry), **await asyncio.to_thread(_next, service)}


def _add(service: Service, given: NewAnswer) -> Entry:
    return service.answers.add(
        given.image,
        given.answer,
        given.kind or None,
        who=given.who,
        when=now(),
        token=given.token,
        seen=given.seen,
    )


@router.post("/answers/undo")
async def undo(request: Request, given: TakenBack) -> dict[str, Any]:
    """Take an answer back; what stood before it stands again. ``entry`` is null where nothing was there."""
    service = service_of(request)
    entry = await asyncio.to_thread(
        lambda: service.answers.undo(given.image, given.entry, who=given.who, when=now(), token=given.token)
    )
    return {"entry": None if entry is None else asdict(entry), **await asyncio.to_thread(_next, service)}


@router.get("/answers")
async def answers(request: Request, history: bool = False) -> dict[str, Any]:
    """Answers that stand, one per image; with ``history`` every entry ever made."""
    store = service_of(request).answers
    rows = await asyncio.to_thread(store.history if history else store.current)
    return {"answers": [asdict(row) for row in rows]}


@router.get("/queue")
async def queue(request: Request) -> dict[str, Any]:
    """The images that wait, the most urgent first (at most 50 of them), and how many of what there are."""
    return await asyncio.to_thread(_next, service_of(request))


def _next(service: Service) -> dict[str, Any]:
    order = service.queue.order()
    return {
        "waiting": len(order),
        "counts": service.answers.counts(),
        "kinds": service.answers.kinds(),
        "next": [{"image": asked.scored.image, "why": asked.why} for asked in order[:50]],
    }
