"""Changes of an image that no eye sees: what happens to files on their way through cameras and programs."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from contracts.rows import ImageArray

Change = Callable[[ImageArray, int], ImageArray]
"""``[S, S, 3]`` uint8 and a seed → the changed image, of the same shape."""


@dataclass(frozen=True)
class Perturbation:
    """One way of changing an image.

    Attributes:
        title: for people, as in "noise of one grey level".
        change: what it does.
    """

    title: str
    change: Change


def _jpeg(image: ImageArray, seed: int) -> ImageArray:  # noqa: ARG001
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _noise(image: ImageArray, seed: int) -> ImageArray:
    # A camera without colours has one value for a pixel, and so has its noise.
    is_grey = bool((image == image[..., :1]).all())
    shape = (*image.shape[:2], 1 if is_grey else 3)
    change = np.random.default_rng(seed).integers(-1, 2, shape)
    return _to_uint8(image.astype(np.int16) + change)


def _shifted(image: ImageArray, seed: int) -> ImageArray:  # noqa: ARG001
    # The column at the left edge is repeated.
    return np.concatenate([image[:, :1], image[:, :-1]], axis=1)


def _brighter(image: ImageArray, seed: int) -> ImageArray:  # noqa: ARG001
    return _to_uint8(np.rint(image * 1.02))


def _to_uint8(values: npt.NDArray[Any]) -> ImageArray:
    return np.asarray(values.clip(0, 255), dtype=np.uint8)


PERTURBATIONS: Mapping[str, Perturbation] = {
    "jpeg_95": Perturbation("saved again as JPEG 95", _jpeg),
    "noise": Perturbation("noise of ±1 grey level", _noise),
    "shift": Perturbation("shifted by one pixel", _shifted),
    "brighter": Perturbation("2 % brighter", _brighter),
}
"""By name; all of them work at working size, after decoding."""
