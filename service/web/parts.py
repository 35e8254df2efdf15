"""What routes share: the service behind a request, and pages filled in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from contracts.text import printable, printable_lines
from service.service import Service

STATIC = Path(__file__).parent / "static"


def service_of(request: Request) -> Service:
    """The service behind a request."""
    found: Service = request.app.state.service
    return found


@cache
def _templates() -> Environment:
    """Our templates: every text escaped, every missing one an error."""
    environment = Environment(
        loader=PackageLoader("service.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = lambda text: printable(str(text))
    environment.filters["printable_lines"] = lambda text: printable_lines(str(text))
    environment.filters["share"] = _share
    return environment


def _share(p: float | None) -> str:
    """A probability with as many digits as say something."""
    if p is None:
        return "–"
    if 0.0 < p < 0.001:
        return "< 0.001"
    return "> 0.999" if 0.999 < p < 1.0 else f"{p:.3f}"


def page(request: Request, template: str, **values: Any) -> HTMLResponse:
    """A page or a part of one."""
    service = service_of(request)
    text = (
        _templates()
        .get_template(template)
        .render(model=service.model, model_file=service.settings.model.name, digest=service.digest, **values)
    )
    return HTMLResponse(text)
