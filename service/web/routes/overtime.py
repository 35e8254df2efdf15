"""The page over time: what came in day by day, and whether the file in use still fits."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from contracts.text import printable
from service.overtime import Day, OverTime, over_time
from service.service import Service
from service.web.drawing import bars, evidence, share_chart
from service.web.parts import page, service_of

router = APIRouter(tags=["time"])

Camera = Annotated[str | None, Query(max_length=255)]


@router.get("/time", response_class=HTMLResponse, include_in_schema=False)
async def time(request: Request, camera: Camera = None) -> HTMLResponse:
    """The page; of one camera, lot or folder where it is asked for."""
    service = service_of(request)
    found = await asyncio.to_thread(_gathered, service, camera)
    charts = _charts(service, found)
    return page(request, "time.html", here="time", found=found, camera=camera, charts=charts)


@router.get("/time.json")
async def numbers(request: Request, camera: Camera = None) -> dict[str, Any]:
    """The same as numbers."""
    found = await asyncio.to_thread(_gathered, service_of(request), camera)
    return {
        "days": [
            {
                "date": day.date,
                "images": day.images,
                "minority": day.minority,
                "triage": day.triage,
                "answers": day.answers,
                "watch": None if day.watch is None else day.watch.to_json(),
            }
            for day in found.days
        ],
        "cameras": found.cameras,
        "together": None if found.together is None else found.together.to_json(),
        "calibration": None if found.calibration is None else found.calibration.to_json(),
    }


def _gathered(service: Service, camera: str | None) -> OverTime:
    return over_time(service.answers, service.model, service.digest, camera)


def _charts(service: Service, found: OverTime) -> dict[str, Any]:
    """The charts that there is something to draw for."""
    if not found.days:
        return {}
    dates = [day.date for day in found.days]
    minority = printable(service.model.minority)
    charts: dict[str, Any] = {
        "share": None,
        "evidence": None,
        "images": bars(
            dates,
            [(day.minority, day.images - day.minority) for day in found.days],
            ("minority-fill", "normal-fill"),
            f"Images per day, those decided {minority} below the others.",
        ),
        "answers": bars(
            dates,
            [(day.answers.get("minority", 0), day.answers.get("normal", 0)) for day in found.days],
            ("minority-fill", "normal-fill"),
            f"Answers per day, those for {minority} below those for normal.",
        ),
    }
    shares = [_share(day) for day in found.days]
    if any(shares):
        charts["share"] = share_chart(
            dates, shares, f"Estimated share of {minority} per day with its interval."
        )
    if found.calibration is not None:
        watched = found.calibration
        charts["evidence"] = evidence(
            watched.more.tolist(),
            watched.fewer.tolist(),
            watched.limit,
            f"Evidence over {watched.answers} answers that {minority} is more or less frequent than said.",
        )
    return charts


def _share(day: Day) -> tuple[float, float, float] | None:
    figure = None if day.watch is None else day.watch.share.figure
    return None if figure is None else (figure.value, figure.low, figure.high)
