"""``POST /score``: files as a form, or JSON with files or arrays in base64."""

from __future__ import annotations

import base64
import io
import json
from typing import Literal

import numpy as np
from fastapi import APIRouter, Request
from PIL import Image
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import UploadFile

from contracts.errors import UsageError
from contracts.text import printable
from service.intake import Arrival, Outcome
from service.web.parts import service_of

router = APIRouter(tags=["scoring"])


class ScoredImage(BaseModel):
    """What became of one image.

    Attributes:
        name: as it was sent.
        image: SHA-256 of the file.
        status: ``ok`` or ``failed``.
        error: why there are no scores.
        decision: name of the decided class.
        triage: PASS, FAIL, REVIEW or NOVEL.
        probability: calibrated, of the minority.
        p_normal: how often a normal image looks at least as much like the minority.
        p_minority: how often a minority image looks at least as normal.
        member_scores: member → score; higher = more like the minority.
    """

    name: str
    image: str
    status: Literal["ok", "failed"]
    error: str | None = None
    decision: str | None = None
    triage: str | None = None
    probability: float | None = None
    p_normal: float | None = None
    p_minority: float | None = None
    member_scores: dict[str, float] = Field(default_factory=dict)


class ScoreAnswer(BaseModel):
    """Answer of ``POST /score``: the images in the order in which they were sent."""

    model: str
    images: list[ScoredImage]


class SentImage(BaseModel):
    """One image in JSON: ``data`` is a file in base64; ``pixels`` with ``shape`` an array.

    Attributes:
        name: to be told by.
        data: base64 of a JPEG, PNG, TIFF … file.
        pixels: base64 of uint8 RGB values, row by row.
        shape: ``[height, width, 3]`` of them.
    """

    name: str = ""
    data: str | None = None
    pixels: str | None = None
    shape: tuple[int, int, int] | None = None


class SentImages(BaseModel):
    """JSON body of ``POST /score``."""

    images: list[SentImage]
    camera: str = ""


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "camera": {"type": "string"},
                    },
                }
            },
            "application/json": {"schema": SentImages.model_json_schema(ref_template="#/$defs/{model}")},
        },
    }
}


@router.post("/score", response_model=ScoreAnswer, openapi_extra=_BODY)
async def score(request: Request) -> ScoreAnswer:
    """Score images. A broken one is answered with its reason and does not affect the others.

    503 and 429 come with Retry-After: send the same again after so many seconds.
    """
    service = service_of(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        arrivals = await _of_form(request)
    elif media_type == "application/json":
        arrivals = _of_json(await request.body())
    else:
        raise UsageError(
            "Content-Type is neither multipart/form-data nor application/json. Send one of them."
        )
    most, largest = service.limits.files, service.limits.file_bytes
    if not 1 <= len(arrivals) <= most:
        raise UsageError(f"the request holds {len(arrivals)} images; send 1 to {most}.")
    for arrival in arrivals:
        if len(arrival.data) > largest:
            raise UsageError(
                f"{printable(arrival.name)}: {len(arrival.data):,} bytes; at most {largest:,} are taken."
            )
    return ScoreAnswer(
        model=service.digest, images=[scored(each) for each in await service.intake.take(arrivals)]
    )


def scored(outcome: Outcome) -> ScoredImage:
    """An outcome as it is answered."""
    judged = outcome.judged
    name = outcome.arrival.name.encode("utf-8", "replace").decode()
    if judged.error is not None:
        return ScoredImage(name=name, image=outcome.image, status="failed", error=printable(judged.error))
    return ScoredImage(
        name=name,
        image=outcome.image,
        status="ok",
        decision=judged.decision,
        triage=judged.triage,
        probability=judged.probability,
        p_normal=judged.p_normal,
        p_minority=judged.p_minority,
        member_scores=judged.members,
    )


async def _of_form(request: Request) -> list[Arrival]:
    limits = service_of(request).limits
    async with request.form(max_files=limits.files, max_fields=8, max_part_size=4096) as form:
        camera = form.get("camera")
        source = "dropped" if form.get("from") == "page" else "http"
        return [
            Arrival(await part.read(), part.filename or "", source, camera if isinstance(camera, str) else "")
            for _, part in form.multi_items()
            if isinstance(part, UploadFile)
        ]


def _of_json(body: bytes) -> list[Arrival]:
    try:
        sent = SentImages.model_validate(json.loads(body))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UsageError(f"{where}: {problem['msg']}. See /openapi.json for the form.") from None
    except (ValueError, RecursionError):
        raise UsageError("the body is no JSON. See /openapi.json for the form.") from None
    return [
        Arrival(_file_of(image, number), image.name, "http", sent.camera)
        for number, image in enumerate(sent.images)
    ]


def _file_of(image: SentImage, number: int) -> bytes:
    """The bytes of a sent image; an array becomes a file without loss, so that there is one way for all."""
    try:
        if image.data is not None:
            return base64.b64decode(image.data, validate=True)
        values = base64.b64decode(image.pixels or "", validate=True)
    except ValueError as error:  # also of letters that base64 does not have
        raise UsageError(f"images.{number}: no base64 ({error}). Encode it again.") from None
    shape = image.shape
    if shape is None or min(shape) < 1 or shape[2] != 3 or shape[0] * shape[1] * 3 != len(values):
        raise UsageError(
            f"images.{number}: {len(values):,} bytes of pixels and shape {list(shape or ())}; give data, or "
            "pixels of uint8 RGB with shape [height, width, 3]."
        )
    buffer = io.BytesIO()
    Image.fromarray(np.frombuffer(values, dtype=np.uint8).reshape(shape)).save(buffer, "BMP")
    return buffer.getvalue()
