"""``GET /health`` and ``GET /metrics``: whether it lives, and how it does."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from service.web.parts import service_of

router = APIRouter(tags=["operation"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Whether the service answers; needs no token and says nothing else."""
    return {"status": "ok"}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> PlainTextResponse:
    """Counters in Prometheus' text format."""
    return PlainTextResponse(
        service_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )
