"""The region of interest: the part of every picture that is looked at; what lies outside changes no score."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from contracts.errors import ImageError, UsageError
from contracts.files import digest_of
from contracts.rows import FloatArray, ImageArray, MaskArray
from imagedata.decoding.shape import GREY, MIN_SIDE, Fit, in_square

Box = tuple[float, float, float, float]

_UNEVEN = 0.01
_DIMMED = 0.3
"""Brightness that is left of what lies outside, where the region is drawn."""


@dataclass(frozen=True)
class Region:
    """A rectangle, or a mask of any form.

    Pictures are cut to it before they are resized, so that all of the working size is spent on it. A mask is
    cut to its own bounding box, and what it leaves out of that is painted grey.

    Attributes:
        box: left, top, right and bottom as shares of width and height of the upright picture; None for a
            mask.
        mask: PNG file of 1 bit per pixel, white where pictures are looked at; empty for a rectangle. Pictures
            may be of any size, but of the mask's proportions.

    Raises:
        UsageError: the rectangle is empty, out of order or reaches beyond the picture.
    """

    box: Box | None = None
    mask: bytes = b""

    def __post_init__(self) -> None:
        """Refuse a rectangle in which nothing could be."""
        if self.box is None:
            return
        left, top, right, bottom = self.box
        if not (0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0):
            shown = ",".join(f"{share:g}" for share in self.box)
            raise UsageError(
                f"roi={shown}: a rectangle is left,top,right,bottom in shares of width and height, each from "
                "0 to 1, with left below right and top below bottom, such as roi=.1,.1,.9,.9."
            )

    @classmethod
    def of_mask(cls, inside: MaskArray) -> Region:
        """The region of a mask ``[H, W]``, True where pictures are looked at."""
        buffer = io.BytesIO()
        Image.fromarray(inside).save(buffer, "PNG", optimize=True)
        return cls(mask=buffer.getvalue())

    def to_json(self) -> dict[str, Any]:
        """All of it, so that a file that holds this needs no other."""
        if self.box is not None:
            return {"box": list(self.box)}
        return {"mask": base64.b64encode(self.mask).decode("ascii")}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Region:
        """Rebuild a region written by :meth:`to_json`."""
        if "box" in document:
            left, top, right, bottom = (float(share) for share in document["box"])
            return cls((left, top, right, bottom))
        return cls(mask=base64.b64decode(document["mask"]))

    @property
    def digest(self) -> str:
        """Of what it marks, however its file is written; in the keys of all that is made of its pixels."""
        if self.box is not None:
            return digest_of(self.to_json())
        own = _opened(self.mask)
        return digest_of([*own.size, np.packbits(np.asarray(own)).tobytes().hex()])

    @property
    def mask_size(self) -> tuple[int, int] | None:
        """Width and height of the mask; None of a rectangle."""
        return _opened(self.mask).size if self.mask else None

    @property
    def share(self) -> float:
        """Of the picture's area, 0…1."""
        if self.box is not None:
            left, top, right, bottom = self.box
            return (right - left) * (bottom - top)
        return float(np.asarray(_opened(self.mask)).mean())

    @property
    def is_symmetric(self) -> bool:
        """Whether what is cut out has nearly the form of its own mirror image, as every rectangle has.

        Of a mask's bounding box one pixel in a hundred may differ: its edge is painted by hand.
        """
        if self.box is not None:
            return True
        inside = np.asarray(_inside(self.mask, _opened(self.mask).size)[0]) > 0
        return bool((inside != inside[:, ::-1]).mean() <= _UNEVEN)

    @property
    def sentence(self) -> str:
        """For people."""
        if self.box is not None:
            left, top, right, bottom = self.box
            what = f"the rectangle from {left:.4g},{top:.4g} to {right:.4g},{bottom:.4g} of width and height"
        else:
            what = "a mask of {}x{} pixels".format(*_opened(self.mask).size)
        return (
            f"Region of interest: {what}, {self.share:.0%} of each picture; nothing outside changes a score."
        )

    def bounds(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels, of an upright picture of this width and height.

        Raises:
            ImageError: the picture has not the mask's proportions, or too little of it lies in the region.
        """
        bounds = _in_pixels(self.box, size) if self.box is not None else _inside(self.mask, size)[1]
        left, top, right, bottom = bounds
        if min(right - left, bottom - top) < MIN_SIDE:
            raise ImageError(
                f"image is {size[0]}x{size[1]} pixels, of which the region of interest holds "
                f"{right - left}x{bottom - top}; at least {MIN_SIDE}x{MIN_SIDE} are needed.",
                rule="too_small",
            )
        return bounds

    def cut(self, image: Image.Image) -> Image.Image:
        """The part of an upright picture of mode RGB or L that is looked at, not resized; by a mask, RGB.

        Raises:
            ImageError: see :meth:`bounds`.
        """
        shown = image.crop(self.bounds(image.size))
        if self.box is not None:
            return shown
        canvas = Image.new("RGB", shown.size, (GREY, GREY, GREY))
        canvas.paste(shown, mask=_inside(self.mask, image.size)[0])
        return canvas

    def cut_mask(self, marked: MaskArray) -> MaskArray:
        """What a mask ``[H, W]`` of an anomaly marks within the part that :meth:`cut` shows."""
        shown = np.asarray(self.cut(Image.fromarray(marked).convert("RGB")).convert("L"))
        return np.asarray(shown == 255)

    def seen(self, cells: int, fit: Fit) -> MaskArray | None:
        """``[g, g]`` whether a cell of a map holds at least some of the region; None where all of them do.

        Args:
            cells: per side of the map, g.
            fit: how the cut picture became a square.
        """
        if self.box is not None:
            return None
        own = _opened(self.mask)
        inside, _ = _inside(self.mask, own.size)
        # At a multiple of the map's side, so that each cell has pixels of its own.
        fine = np.asarray(in_square(inside, cells * 16, fit, 0, Image.Resampling.NEAREST))
        return np.asarray(fine.reshape(cells, 16, cells, 16).max(axis=(1, 3)) > 0)

    def within(self, maps: FloatArray, fit: Fit) -> FloatArray:
        """Maps ``[N, g, g]`` which outside of the region are as low as their lowest cell within it.

        Outside, nothing was looked at; the exported graph does the same with its map.
        """
        seen = self.seen(maps.shape[-1], fit)
        if seen is None:
            return maps
        lowest = np.where(seen, maps, np.inf).min(axis=(1, 2), keepdims=True)
        return np.asarray(np.where(seen, maps, lowest), dtype=np.float32)

    def drawn_on(self, image: Image.Image) -> ImageArray:
        """``[H, W, 3]`` uint8 the whole picture with all that lies outside of the region dark."""
        pixels = np.asarray(image)
        marked = Image.new("L", image.size)
        if self.box is not None:
            marked.paste(255, _in_pixels(self.box, image.size))
        else:
            inside, bounds = _inside(self.mask, image.size)
            marked.paste(inside, bounds)
        weight = np.where(np.asarray(marked)[..., None] > 0, 1.0, _DIMMED)
        return np.asarray(np.rint(pixels * weight), dtype=np.uint8)


def _in_pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels whose centres lie in a rectangle: left, top, and the first ones beyond right and bottom."""
    left, top, right, bottom = (
        int(share * side + 0.5) for share, side in zip(box, (*size, *size), strict=True)
    )
    return left, top, right, bottom


@lru_cache(maxsize=4)
def _opened(mask: bytes) -> Image.Image:
    with Image.open(io.BytesIO(mask), formats=("PNG",)) as image:
        return image.convert("1")


@lru_cache(maxsize=16)
def _inside(mask: bytes, size: tuple[int, int]) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Of a picture of this size: the mask within its bounding box (mode L, 0 or 255), and that box."""
    own = _opened(mask)
    # As a file of another resolution, whose sides are rounded to whole pixels.
    if abs(size[0] * own.height - own.width * size[1]) > max(own.size) + max(size):
        raise ImageError(
            f"image is {size[0]}x{size[1]} pixels upright, but the mask of the region of interest is "
            f"{own.width}x{own.height}; they must have the same proportions.",
            rule="region",
        )
    whole = own.convert("L").resize(size, Image.Resampling.NEAREST)
    bounds = whole.getbbox() or (0, 0, 0, 0)
    return whole.crop(bounds), bounds
