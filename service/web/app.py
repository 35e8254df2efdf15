"""The application: routes, errors as sentences, and the guard before all of it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from contracts.errors import DataError, ImageError, OutnumberedError, UsageError
from contracts.text import printable_lines
from service.engine.pool import FullError
from service.limits import RETRY_AFTER_S
from service.service import Service
from service.web.access import Access
from service.web.guard import Guard
from service.web.parts import STATIC
from service.web.routes import answers, health, images, overtime, pages, score, versions

_ROUTERS = (
    health.router,
    score.router,
    answers.router,
    images.router,
    pages.router,
    versions.router,
    overtime.router,
)


def application(service: Service, access: Access) -> Guard:
    """The service as an ASGI application.

    Args:
        service: started by whoever runs it.
        access: who may ask.
    """
    # No page of documentation: FastAPI's loads scripts from elsewhere. /openapi.json is enough for tools.
    app = FastAPI(title="Outnumbered", version=_version(), docs_url=None, redoc_url=None)
    app.state.service, app.state.access = service, access
    for router in _ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_exception_handler(FullError, _full)
    app.add_exception_handler(OutnumberedError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    return Guard(app, access, service.limits, service.metrics)


def _version() -> str:
    try:
        return version("outnumbered")
    except PackageNotFoundError:
        return "unknown"


async def _full(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse(
        {"error": "Too many images wait already. Send it again in a moment."},
        503,
        {"Retry-After": str(RETRY_AFTER_S)},
    )


async def _refused(_: Request, error: Exception) -> JSONResponse:
    """An error that says what to do, with the status that fits."""
    sentence = {"error": printable_lines(str(error))}
    if isinstance(error, UsageError):
        return JSONResponse(sentence, 404 if "no image is known" in str(error) else 400)
    if isinstance(error, ImageError):
        return JSONResponse(sentence, 422)
    if isinstance(error, DataError):
        return JSONResponse(sentence, 409)
    return JSONResponse(sentence, 503, {"Retry-After": str(RETRY_AFTER_S)})


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """A body or an address of another form than /openapi.json says; without what was sent in it."""
    found: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    where = ".".join(map(str, found[0]["loc"])) if found else "request"
    said = found[0]["msg"] if found else "not valid"
    return JSONResponse({"error": f"{printable_lines(where)}: {said}. See /openapi.json."}, 400)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code)
