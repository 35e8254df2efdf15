"""The pages: review, all images, one image."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from service.records import Entry, Image, Scored
from service.service import Service
from service.web.access import Access
from service.web.parts import page, service_of
from service.web.routes.images import card_of

router = APIRouter(include_in_schema=False)

_SHOWN = 200
_MONTH_S = 30 * 24 * 3600

Row = tuple[Image, Scored, Entry | None]


@router.get("/", response_class=HTMLResponse)
async def review(request: Request) -> Response:
    """The first page. Called with the token, it sets the cookie and calls itself without."""
    if getattr(request.state, "by_url", False):
        access: Access = request.app.state.access
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            access.cookie_name, access.cookie, max_age=_MONTH_S, path="/", httponly=True, samesite="strict"
        )
        return answer
    return page(request, "review.html", here="review")


@router.get("/images", response_class=HTMLResponse)
async def images(
    request: Request, triage: Literal["PASS", "FAIL", "REVIEW", "NOVEL"] | None = None
) -> HTMLResponse:
    """What was scored last, the newest first."""
    rows = await asyncio.to_thread(_rows, service_of(request), triage)
    return page(request, "images.html", here="images", rows=rows, triage=triage, most=_SHOWN)


def _rows(service: Service, triage: str | None) -> list[Row]:
    answers = {entry.image: entry for entry in service.answers.current()}
    newest = service.answers.latest_scores(most=5000)[::-1]
    chosen = [row for row in newest if triage in (None, row.triage)][:_SHOWN]
    return [(service.answers.image(row.image), row, answers.get(row.image)) for row in chosen]


@router.get("/images/{digest}", response_class=HTMLResponse)
async def image(request: Request, digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> HTMLResponse:
    """One image, and what was said of it."""
    service = service_of(request)
    found = await asyncio.to_thread(card_of, service, digest)
    history = await asyncio.to_thread(service.answers.history, digest)
    return page(request, "image.html", here="images", card=found, history=history)
