"""Pictures of the most probable images with the evidence on them, drawn with numpy and Pillow alone.

``_heat_maps/`` holds one PNG per image, ``0001-<name>.png`` the most probable, or the oddest where the file
gives no probability: left the image as the model sees it, right the same in grey with the file's
``anomaly_map``, or the map of one member where that is asked for. All pictures of a run share one scale, from
the median of all their maps (no colour) to the largest value (bright), so that a warm spot means the same
everywhere. ``index.csv`` says which picture is of which image.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from contracts.errors import ImageError, UsageError, nearest_match
from contracts.rows import FloatArray, ImageArray
from export.scoring.csv_files import no_formula, number_or_nothing, write_lines
from export.scoring.model import ScoringModel
from export.scoring.output import HEAT_MAPS_NAME
from export.scoring.run import FinishedRun
from export.scoring.shard import decode_row, writing_failed
from export.scoring.summary import Row
from imagedata.containers.reader import ContainerReader

MOST_HEAT_MAPS = 200
"""The maps are held together for their common scale; this bounds the memory."""

_LEAST_SIDE = 256  # pixels; smaller working sizes are shown enlarged
_STRONGEST = 0.75  # share of the colour where the map is highest
# Black over violet and orange to pale yellow: brightness rises all the way, also for the colour-blind.
_RAMP = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=np.float64)


def check_has_map(model: ScoringModel, member: str | None = None) -> None:
    """Refuse heat maps of a file that has none, before hours of scoring.

    Args:
        model: the file.
        member: whose map is to be drawn; None for all of them together.

    Raises:
        UsageError: no member of the file draws a map, or not this one.
    """
    if not model.has_map:
        raise UsageError(
            f"--heat-maps: {model.path} has no map; none of its members ({', '.join(model.members)}) says "
            "where the evidence lies. Leave the option out, or export an ensemble with PatchCore in it."
        )
    if member is not None and member not in model.maps_of:
        known = ", ".join(model.maps_of) or "none of a single member"
        raise UsageError(
            f"--map {member}: {model.path} has no such map.{nearest_match(member, model.maps_of)} It has: "
            f"{known}. Leave the option out for all of them together."
        )


def write_heat_maps(run: FinishedRun, rows: Sequence[Row], member: str | None = None) -> Path:
    """Draw the given images; returns the folder, which appears whole in place of an older one.

    An image that has gone since it was scored has no picture, and its line in ``index.csv`` says why.

    Args:
        run: scored.
        rows: which images.
        member: whose map is drawn; None for all of them together.

    Raises:
        DataError: the pictures cannot be written.
    """
    folder = run.job.output / HEAT_MAPS_NAME
    temporary = folder.with_name(f".{HEAT_MAPS_NAME}.{os.getpid()}.tmp")
    pixels, maps, errors = _maps(run, rows, member)
    # One scale for all pictures, so that equal colours mean equal evidence.
    values = np.concatenate([heat.ravel() for heat in maps if heat is not None] or [np.zeros(1, np.float32)])
    low, high = float(np.median(values)), float(values.max())
    lines: list[list[object]] = []
    try:
        temporary.mkdir(parents=True)
        for rank, row in enumerate(rows, start=1):
            image, heat = pixels[rank - 1], maps[rank - 1]
            name = ""
            if image is not None and heat is not None:
                name = f"{rank:04d}-{_plain_name(row.path)}.png"
                (temporary / name).write_bytes(draw(image, heat, low, high))
            numbers = [number_or_nothing(value) for value in (row.probabilities[-1], row.p_normal)]
            lines.append([rank, name, no_formula(row.path), *numbers, errors[rank - 1]])
        header = ["rank", "picture", "path", "probability", "p_normal", "error"]
        write_lines(temporary / "index.csv", header, lines)
        # A folder cannot be replaced by a rename while it exists; between the two steps there is none, never
        # half of one.
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise writing_failed(run.job.output, error) from error
    return folder


def draw(pixels: ImageArray, heat: FloatArray, low: float, high: float) -> bytes:
    """A PNG of the image beside the image with its map.

    Args:
        pixels: ``[S, S, 3]`` uint8 RGB.
        heat: ``[h, w]`` map of any size.
        low: value without colour.
        high: value of the strongest colour; all is uncoloured where it is not above ``low``.
    """
    side = max(_LEAST_SIDE, pixels.shape[0])
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    share = np.zeros(heat.shape) if high <= low else np.clip((heat - low) / (high - low), 0.0, 1.0)
    smooth = Image.fromarray(share.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    # Stretched before it is coloured: interpolated colours need not lie on the ramp.
    level = np.asarray(smooth, dtype=np.float64)
    stops = np.linspace(0.0, 1.0, len(_RAMP))
    colour = np.stack([np.interp(level, stops, _RAMP[:, channel]) for channel in range(3)], axis=-1)
    weight = (_STRONGEST * level)[..., None]
    # On grey, so that no colour of the image can be taken for evidence.
    grey = np.asarray(image.convert("L"), dtype=np.float64)[..., None]
    over = grey * (1.0 - weight) + colour * weight
    both = np.concatenate([np.asarray(image), np.rint(over).astype(np.uint8)], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(both).save(buffer, "PNG")
    return buffer.getvalue()


def _maps(
    run: FinishedRun, rows: Sequence[Row], member: str | None
) -> tuple[list[ImageArray | None], list[FloatArray | None], list[str]]:
    """Pixels and map of each image, decoded and run again; None with a reason where that fails."""
    containers = ContainerReader()
    pixels: list[ImageArray | None] = []
    maps: list[FloatArray | None] = []
    errors: list[str] = []
    for row in rows:
        try:
            decoded = decode_row(row.shard, row.position, run.model.decode, containers)
        except ImageError as error:
            pixels.append(None)
            maps.append(None)
            errors.append(str(error))
            continue
        scores = run.model.run(decoded.pixels[None], run.job.prior, run.job.threshold, with_maps=True)
        heat = scores.anomaly_map if member is None else scores.maps[member]
        pixels.append(decoded.pixels)
        maps.append(None if heat is None else np.asarray(heat[0], dtype=np.float32))
        errors.append("")
    containers.close()
    return pixels, maps, errors


def _plain_name(path: str) -> str:
    """The image's own name, as far as any file system takes it."""
    # Separators of archives and of both kinds of paths.
    stem = Path(re.split(r"::|/|\\", path)[-1]).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem)[:60] or "image"
