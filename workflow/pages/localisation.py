"""What the report shows of ``localise``: figures, where they are of the present file, and three pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from contracts.errors import DataError, ImageError
from contracts.files import read_json, sha256_of_file
from contracts.rows import MaskArray
from features.rows import read_pixels
from imagedata.decoding.masks import read_mask
from reporting.content import Localised, MaskedPicture
from workflow.explaining.localise import FILE
from workflow.run.state import Run

_KEYS = {"model_sha256", "map_of", "fpr_limit", "kinds", "maps", "examples", "left_out"}


def localised(run: Run, pictures: bool) -> Localised | None:
    """How well the map of ``model.onnx`` finds what the masks mark; None where no test image has a mask.

    Args:
        run: with all its members, even where the report is about some of them: the file holds all.
        pictures: show examples.

    Raises:
        DataError: an image or mask to be shown has gone or changed since.
    """
    config, data = run.config, run.data
    minority = data.manifest.class_names[-1]
    masks = sum(row.label == minority and row.mask is not None for row in data.test)
    if not masks:
        return None
    measure = config.options.command("localise")
    finished = run.finished
    if finished is None:
        return Localised(masks, commands=[config.options.command("ensemble"), measure])
    if finished.get("not_exported") or not _has_map(run.model):
        return Localised(masks)
    document = _document(config.folder / FILE)
    if document is None or document["model_sha256"] != sha256_of_file(run.model):
        return Localised(masks, commands=[measure])
    return Localised(masks, document, pictures=_pictures(run, document) if pictures else ())


def _has_map(model: Path) -> bool:
    from export.scoring.model import load_model

    return load_model(model, at_first_run=True).has_map


def _document(path: Path) -> dict[str, Any] | None:
    """What ``localise`` wrote; None where it did not, or in another form than today's."""
    try:
        document = read_json(path)
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.keys() >= _KEYS else None


def _pictures(run: Run, document: dict[str, Any]) -> Sequence[MaskedPicture]:
    from export.scoring.model import load_model

    examples = document["examples"]
    if not examples:
        return ()
    root, config = run.data.manifest.root, run.config
    pixels = read_pixels([root / each["path"] for each in examples], config.decode)
    maps = load_model(run.model).run(pixels, with_maps=True).anomaly_map
    assert maps is not None  # looked for above
    again = config.options.command("localise")
    return [
        MaskedPicture(
            path=each["path"],
            kind=each["kind"],
            pixel_auroc=each["pixel_auroc"],
            pixels=pixels[place],
            mask=_mask(root / each["mask"], config.decode.size, again),
            heat=np.asarray(maps[place], dtype=np.float32),
        )
        for place, each in enumerate(examples)
    ]


def _mask(path: Path, side: int, again: str) -> MaskArray:
    """``[side, side]`` True in every pixel that an anomaly reaches into."""
    try:
        mask = read_mask(path)
    except ImageError as error:
        raise DataError(
            f"{path}: {error} It was whole when localise read it. Put it back, or run again: {again}"
        ) from error
    # BOX averages, so that a pixel is above 0 as soon as the anomaly touches it.
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small) > 0
