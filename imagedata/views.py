"""Views: a training image changed as lightly as files change on their way, so that its label still holds.

The backbone is frozen, and members see one vector of each image. Next to none of what a copied, compressed or
slightly brighter file does to that vector is in a few hundred training images, so that a member may rest on
just those directions. A view shows them. Only training images have views, and a view belongs to its image:
it has that image's label, group and fold, it is scored nowhere and counted nowhere.

Changes work on pixels at working size, after decoding. What is drawn follows from the digest of the image's
file and the number of the view alone, so that a view is computed once and serves every run.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from contracts.rows import ImageArray

ViewsAtScoring = Literal["none", "mirror"]
"""How an image is seen when it is scored: as it is, or as itself and as its :class:`MirrorImage`."""

MIRROR_SENTENCE = (
    "Every image is scored as itself and as its mirror image: each member's score and map are the mean of "
    "both."
)

ViewChange = Literal["mirror", "crop", "brightness", "encoding", "noise"]
CHANGES: tuple[ViewChange, ...] = get_args(ViewChange)
"""All of them, in the order in which they are done. Noise is last, or encoding would wipe out most of it."""

# Raised when a view of the same image has other pixels, so that kept features of the old ones are not read.
_VERSION = 1

_MOST_CROPPED = 0.06
_BRIGHTNESS = (0.9, 1.1)
_MOST_NOISE = 2
_QUALITY = (75, 95)


@dataclass(frozen=True)
class View:
    """One way of seeing one image.

    Attributes:
        sha256: of the image's file.
        changes: what is done, in the order of :data:`CHANGES`; how much of it follows from the digest.
        number: distinguishes several views of an image, from 0.
    """

    sha256: str
    changes: tuple[ViewChange, ...]
    number: int = 0

    @property
    def digest(self) -> str:
        """Who the view is: 64 hex digits, as an image's own digest has."""
        said = f"view {_VERSION}|{','.join(self.changes)}|{self.number}|{self.sha256}"
        return hashlib.sha256(said.encode()).hexdigest()

    def of(self, image: ImageArray) -> ImageArray:
        """The view ``[S, S, 3]`` uint8 of the image's pixels ``[S, S, 3]`` uint8 at working size."""
        rng = np.random.default_rng(int(self.digest[:16], 16))
        for name in self.changes:
            image = _CHANGES[name](image, rng)
        return image


@dataclass(frozen=True)
class MirrorImage:
    """An image with left and right exchanged, to be scored beside the image itself.

    Unlike a :class:`View` it is nothing to learn from, and all of it is said by the image's digest.

    Attributes:
        sha256: of the image's file.
    """

    sha256: str

    @property
    def digest(self) -> str:
        """Who the mirror image is: 64 hex digits, as an image's own digest has."""
        return hashlib.sha256(f"mirror image|{self.sha256}".encode()).hexdigest()

    def of(self, image: ImageArray) -> ImageArray:
        """The mirror image ``[S, S, 3]`` uint8 of an image's pixels ``[S, S, 3]`` uint8 at working size."""
        return np.ascontiguousarray(image[:, ::-1])


def _mirrored(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Left and right exchanged, of every other image."""
    return np.ascontiguousarray(image[:, ::-1]) if rng.random() < 0.5 else image


def _cropped(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """A square of at least 94 % of the side, anywhere, brought back to the whole size."""
    size = image.shape[0]
    side = size * (1.0 - rng.uniform(0.0, _MOST_CROPPED))
    left, top = rng.uniform(0.0, size - side, 2)
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))


def _brightened(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    return _to_uint8(image * rng.uniform(*_BRIGHTNESS))


def _noisy(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Noise of at most two grey levels; of every other grey image it has no colour either."""
    is_grey = bool((image == image[..., :1]).all()) and rng.random() < 0.5
    shape = (*image.shape[:2], 1 if is_grey else 3)
    return _to_uint8(image.astype(np.int16) + rng.integers(-_MOST_NOISE, _MOST_NOISE + 1, shape))


def _encoded(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Saved as JPEG of a quality from 75 to 95, and read again."""
    buffer = io.BytesIO()
    quality = int(rng.integers(_QUALITY[0], _QUALITY[1] + 1))
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _to_uint8(values: npt.NDArray[Any]) -> ImageArray:
    return np.asarray(np.rint(values).clip(0, 255), dtype=np.uint8)


_CHANGES: Mapping[ViewChange, Callable[[ImageArray, np.random.Generator], ImageArray]] = {
    "mirror": _mirrored,
    "crop": _cropped,
    "brightness": _brightened,
    "noise": _noisy,
    "encoding": _encoded,
}
