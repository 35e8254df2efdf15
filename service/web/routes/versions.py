"""Model files: teaching the run with answers, what a new file would change, putting one in use, and back."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field, field_validator

from contracts.errors import UsageError
from service.applying import start_job
from service.service import Service
from service.web.parts import page, service_of

router = APIRouter(tags=["files"])

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=80)]


class Person(BaseModel):
    """Who does it: the name, as the person gives it."""

    who: Name = ""

    @field_validator("who")
    @classmethod
    def _can_be_written(cls, value: str) -> str:
        """Without zero bytes, which no command takes."""
        return value.replace("\0", "").strip()


class Chosen(Person):
    """A file to be put in use: its SHA-256."""

    sha256: Digest


class Left(Person):
    """The way back: the SHA-256 of the file that the page showed to be in use."""

    leaving: Digest


@router.get("/versions", response_class=HTMLResponse, include_in_schema=False)
async def versions(request: Request) -> HTMLResponse:
    """The page."""
    service = service_of(request)
    return page(request, "versions.html", here="versions", **await asyncio.to_thread(_shown, service))


def _shown(service: Service) -> dict[str, Any]:
    """All that the page shows."""
    journal = service.versions.read()
    results = service.applying.results()
    last_use = {use.sha256: use for use in journal.uses}
    waiting = service.applying.waiting(service.answers)
    return {
        "journal": journal,
        "files": [(file, last_use.get(file.sha256)) for file in reversed(journal.files)],
        "results": results,
        "newest": results[0] if results else None,
        "waiting": {
            answer: sum(each.answer == answer for each in waiting) for answer in ("normal", "minority")
        },
        "status": service.applying.status(),
        "log": service.applying.log_tail(),
        "has_run": service.settings.run is not None,
        # So that the largest changes lead to the images, where the service has seen them.
        "known": {image.digest for image in service.answers.images()} if results else set(),
    }


@router.get("/versions.json")
async def journal(request: Request) -> dict[str, Any]:
    """The model files that are kept, which one is in use, and every change there was."""
    found = await asyncio.to_thread(service_of(request).versions.read)
    return {
        "in_use": found.in_use,
        "before": found.before,
        "files": [asdict(each) for each in found.files],
        "uses": [asdict(each) for each in found.uses],
    }


@router.get("/apply")
async def state(request: Request) -> dict[str, Any]:
    """How far the newest job is, and the last lines that it said."""
    files = service_of(request).applying
    status = await asyncio.to_thread(files.status)
    return {**asdict(status), "log": await asyncio.to_thread(files.log_tail)}


@router.post("/apply")
async def apply(request: Request, given: Person) -> dict[str, Any]:
    """Teach the run with the answers that wait, in a job; the same job goes on where it was stopped."""
    service = service_of(request)
    run = service.settings.run
    if run is None:
        raise UsageError(
            "this service was started without --run, so there is no run that answers could teach. Start it "
            "with --run RUN, or give: python cli.py apply STORE RUN"
        )
    await asyncio.to_thread(start_job, service.settings.store, run, given.who)
    return {"started": True}


@router.post("/apply/stop")
async def stop(request: Request) -> dict[str, Any]:
    """Stop the job at the next moment; applying again goes on from there."""
    process = await asyncio.to_thread(service_of(request).applying.process)
    if process is not None:
        os.kill(process, signal.SIGTERM)
    return {"stopped": process is not None}


@router.post("/versions/use")
async def use(request: Request, given: Chosen) -> dict[str, Any]:
    """Put a kept file in use: whatever arrives from now on is judged by it."""
    service = service_of(request)
    await asyncio.to_thread(service.use, given.sha256, who=given.who)
    return {"in_use": service.digest}


@router.post("/versions/back")
async def back(request: Request, given: Left) -> dict[str, Any]:
    """Put the file in use that was before; nothing changes where another one is in use than was shown."""
    service = service_of(request)
    await asyncio.to_thread(service.back, who=given.who, leaving=given.leaving)
    return {"in_use": service.digest}
