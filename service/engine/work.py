"""What a worker process does with the bytes of images: score them, or draw one for the page.

Decoding happens here and nowhere else in the service, so a file that ends or blocks its decoder costs one
worker process, never the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from contracts.errors import ImageError, ModelError
from contracts.rows import ImageArray
from contracts.triage import TRIAGE_NAMES
from contracts.worker_process import Announce, Work
from export.scoring.model import Scores, ScoringModel, load_model
from export.scoring.probe import check_probe
from export.scoring.seal import check_seal
from imagedata.audit.facts import THUMBNAIL_SIDE
from imagedata.audit.hashing import perceptual_hashes
from imagedata.decoding.decode import (
    decode_at_stored_size,
    decode_bytes,
    opened_image,
    reuse_pixel_memory,
)
from service.engine.drawing import Drawing, heat_png, picture_jpeg, small_jpeg
from service.limits import Limits

_GRID = 7
"""Cells on a side of the map that "more like this" compares."""


@dataclass(frozen=True)
class Judged:
    """What became of one image.

    Attributes:
        error: why there are no scores, as one sentence; all else is then empty.
        decision: name of the decided class.
        triage: name, or None.
        probability: of the minority, or None.
        p_normal: or None.
        p_minority: or None.
        members: column of the file → score.
        descriptor: what likeness is told by, see :mod:`service.likeness`: a grey thumbnail of 32 x 32 bytes,
            then float16 numbers: members' scores in standard deviations, the map in 7 x 7 cells, and a grey
            picture of 8 x 8, each of length 1.
        look: perceptual hash of the thumbnail.
        width: stored width, in pixels.
        height: stored height.
    """

    error: str | None = None
    decision: str = ""
    triage: str | None = None
    probability: float | None = None
    p_normal: float | None = None
    p_minority: float | None = None
    members: dict[str, float] = field(default_factory=dict)
    descriptor: bytes = b""
    look: int = 0
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class ScoreTask:
    """Score images, each the bytes of a file."""

    images: tuple[bytes, ...]


@dataclass(frozen=True)
class DrawTask:
    """Draw one image file.

    Attributes:
        data: its bytes.
        what: the ``picture`` that the ``heat`` of its evidence lies on, the ``whole`` picture where that is
            another, or a ``small`` one for lists.
        member: whose evidence; None for that of all together.
    """

    data: bytes
    what: Literal["picture", "heat", "whole", "small"]
    member: str | None = None


Task = ScoreTask | DrawTask


def worker(model_path: Path, limits: Limits) -> Work[Task, list[Judged] | Drawing]:
    """Load the model once; return what does one task.

    Raises:
        ModelError: damaged since it was exported, or computed otherwise here than where it was measured.
    """
    reuse_pixel_memory()
    check_seal(model_path)
    model = load_model(model_path, at_first_run=True)
    # One session for all: maps cost next to nothing, a second session as much memory as the first.
    model = replace(model, session=model.session_with_maps)
    check_probe(model)

    def work(task: Task, _: Announce) -> list[Judged] | Drawing:
        return score(model, task, limits) if isinstance(task, ScoreTask) else draw(model, task, limits)

    return work


def score(model: ScoringModel, task: ScoreTask, limits: Limits) -> list[Judged]:
    """Score the images of a task, in its order; one that cannot be used gets its reason."""
    outcomes: list[Judged] = []
    pixels: list[ImageArray] = []
    for image in task.images:
        try:
            check_pixels(image, limits)
            decoded = decode_bytes(image, model.decode)
        except ImageError as error:
            outcomes.append(Judged(error=str(error)))
            continue
        outcomes.append(Judged(width=decoded.width, height=decoded.height))
        pixels.append(decoded.pixels)
    if not pixels:
        return outcomes
    scores = model.run(np.stack(pixels), with_maps=True)
    row = 0
    for place, outcome in enumerate(outcomes):
        if outcome.error is None:
            outcomes[place] = _judged(model, scores, row, pixels[row], outcome)
            row += 1
    return outcomes


def check_pixels(data: bytes, limits: Limits) -> None:
    """Refuse by the header an image of more pixels than the service takes.

    Raises:
        ImageError: it has, or it is no image.
    """
    if not data:
        raise ImageError("file is empty (0 bytes).", rule="empty")
    with opened_image(data) as opened:
        if opened.width * opened.height > limits.pixels:
            raise ImageError(
                f"header claims {opened.width}x{opened.height} pixels; the limit here is "
                f"{limits.pixels:,} in all.",
                rule="bomb",
            )


def _judged(model: ScoringModel, scores: Scores, row: int, pixels: ImageArray, seen: Judged) -> Judged:
    """One row of scores, for the store and the page."""
    if not scores.finite[row]:
        return Judged(error="the model gave a score that is not a finite number.")
    members = scores.member_scores[row]
    thumbnail = _thumbnail(pixels)
    p = None if scores.probability is None else scores.probability[row]
    return replace(
        seen,
        decision=model.classes[int(scores.decision[row])],
        triage=None if scores.triage is None else TRIAGE_NAMES[int(scores.triage[row])],
        probability=None if p is None else float(p if p.ndim == 0 else p[-1]),
        p_normal=None if scores.p_normal is None else float(scores.p_normal[row]),
        p_minority=None if scores.p_minority is None else float(scores.p_minority[row]),
        members=dict(zip(model.members, map(float, members), strict=True)),
        descriptor=descriptor_of(model, scores, row, thumbnail),
        look=int(perceptual_hashes(thumbnail[None])[0][0]),
    )


def _thumbnail(pixels: ImageArray) -> ImageArray:
    """``[32, 32]`` grey."""
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(Image.fromarray(pixels).convert("L").resize(size, Image.Resampling.BILINEAR))


def descriptor_of(model: ScoringModel, scores: Scores, row: int, thumbnail: ImageArray) -> bytes:
    """What "more like this" compares: parts of length 1 each, so that none outweighs the others.

    Args:
        model: that scored.
        scores: of a batch.
        row: of the image in it.
        thumbnail: ``[32, 32]`` grey; kept in front, for near copies.
    """
    members = scores.member_scores[row]
    transform = model.document.get("ensemble", {}).get("combination", {}).get("transform", {})
    mean, std = (np.asarray(transform.get(name, ()), dtype=np.float32) for name in ("mean", "std"))
    known = mean.shape == std.shape == members.shape
    parts = [(members - mean) / np.maximum(std, 1e-6) if known else members]
    if scores.watched_features is not None:
        # Along the directions in which normal images differ most, each in standard deviations.
        parts.append(scores.watched_features[row])
    if scores.anomaly_map is not None:
        heat = scores.anomaly_map[row]
        small = Image.fromarray(heat.astype(np.float32)).resize((_GRID, _GRID), Image.Resampling.BOX)
        cells = np.asarray(small, dtype=np.float32).ravel()
        parts.append(cells - np.median(cells))
    coarse = thumbnail.reshape(8, 4, 8, 4).mean(axis=(1, 3), dtype=np.float32).ravel()
    parts.append(coarse - coarse.mean())
    lengths = [max(float(np.linalg.norm(part)), 1e-6) for part in parts]
    joined = np.concatenate([part / length for part, length in zip(parts, lengths, strict=True)])
    return thumbnail.tobytes() + joined.astype("<f2").tobytes()


def draw(model: ScoringModel, task: DrawTask, limits: Limits) -> Drawing:
    """One image for the page.

    Raises:
        ImageError: it cannot be decoded.
        ModelError: heat was asked for and the file has no map.
    """
    check_pixels(task.data, limits)
    whole_fits = model.decode.fit == "squeeze" and model.decode.region is None
    if task.what == "small":
        return small_jpeg(task.data, model.decode.window)
    if task.what == "whole" or (task.what == "picture" and whole_fits):
        return picture_jpeg(decode_at_stored_size(task.data, model.decode.window))
    decoded = decode_bytes(task.data, model.decode)
    if task.what == "picture":
        # Where the model sees a part only, the map lies on that part.
        return picture_jpeg(Image.fromarray(decoded.pixels))
    scores = model.run(decoded.pixels[None], with_maps=True)
    heat = scores.anomaly_map if task.member is None else scores.maps.get(task.member)
    if heat is None:
        raise ModelError(f"{model.path.name} has no such map.")
    return heat_png(heat[0], model.document, task.member)
