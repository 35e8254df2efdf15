"""A slide put together again from its patches, with the minority class and a model's errors on it.

A canvas takes one patch at a time, so that a slide of thousands needs no more memory than its picture.
Marks differ in shape, not only in colour: a ring for a miss, a cross for a false alarm.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from contracts.rows import ImageArray, MaskArray

LONGEST = 1000
"""Pixels that the longer side of a slide's picture has at most."""

_LARGEST_SCALE = 3.0
_PAPER, _GONE = 255, 208
# Okabe & Ito's yellow with a black rim: stains are pink, purple, blue and brown, and glass is white.
_MINORITY, _RIM = (240, 228, 66), (0, 0, 0)
_TINT = 0.2
_COLOURS = "YlGnBu"  # pale to dark, in order without colour vision, too
_OPACITY = 0.62
_LEGEND, _LEGEND_WIDTH = 40, 370
_TEXT = 13


@dataclass(frozen=True)
class Patch:
    """A patch of a slide.

    Attributes:
        x: left edge in pixels of the slide.
        y: upper edge.
        width: stored width in pixels.
        height: stored height.
        is_minority: by its label.
        probability: the model's probability of the minority class; None where the model said nothing.
        is_flagged: whether the model decided the minority class; None as above.
    """

    x: int
    y: int
    width: int
    height: int
    is_minority: bool
    probability: float | None = None
    is_flagged: bool | None = None

    @property
    def is_missed(self) -> bool:
        """Of the minority class and not decided as such."""
        return self.is_minority and self.is_flagged is False

    @property
    def is_false_alarm(self) -> bool:
        """Decided as of the minority class, and of another."""
        return not self.is_minority and self.is_flagged is True


class Slide:
    """The picture of one slide.

    Args:
        patches: all that it is made of, at least one; those whose files are broken, too.
        longest: pixels of the longer side of the picture, at most.
    """

    def __init__(self, patches: Sequence[Patch], longest: int = LONGEST) -> None:
        self._patches = patches
        self._left, self._top = min(p.x for p in patches), min(p.y for p in patches)
        width = max(p.x + p.width for p in patches) - self._left
        height = max(p.y + p.height for p in patches) - self._top
        self._scale = min(_LARGEST_SCALE, longest / max(width, height))
        size = (max(1, round(height * self._scale)), max(1, round(width * self._scale)), 3)
        self._pixels: ImageArray = np.full(size, _PAPER, dtype=np.uint8)

    def paste(self, patch: Patch, pixels: ImageArray | None) -> None:
        """Put a patch in its place; one without pixels becomes a grey, crossed-out field.

        Args:
            patch: where.
            pixels: ``[h, w, 3]`` uint8 RGB of any size, or None where the file cannot be read.
        """
        left, top, right, bottom = self._box(patch)
        if right <= left or bottom <= top:
            return  # thinner than a pixel of the picture
        if pixels is None:
            field = Image.new("RGB", (right - left, bottom - top), (_GONE, _GONE, _GONE))
            lines = ImageDraw.Draw(field)
            lines.line((0, 0, right - left - 1, bottom - top - 1), fill=(150, 150, 150))
            lines.line((0, bottom - top - 1, right - left - 1, 0), fill=(150, 150, 150))
        else:
            field = Image.fromarray(pixels).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        self._pixels[top:bottom, left:right] = np.asarray(field)

    def labels(self) -> Image.Image:
        """The tissue, with what is labelled as the minority class tinted and outlined."""
        mask = self._minority_mask()
        pixels = self._pixels.astype(np.float64)
        pixels[mask] = (1.0 - _TINT) * pixels[mask] + _TINT * np.array(_MINORITY)
        outline(pixels, mask, self._line)
        return Image.fromarray(np.rint(pixels).astype(np.uint8))

    def probabilities(self) -> Image.Image:
        """The tissue in grey under its probabilities, the labels' outline, and marks on the errors.

        A legend stands below.
        """
        grey = np.asarray(Image.fromarray(self._pixels).convert("L"), dtype=np.float64)[:, :, None]
        pixels = np.repeat(grey, 3, axis=2)
        for patch in self._patches:
            if patch.probability is not None:
                left, top, right, bottom = self._box(patch)
                part = pixels[top:bottom, left:right]
                part += _OPACITY * (colour_of(patch.probability) - part)
        outline(pixels, self._minority_mask(), self._line)
        picture = Image.fromarray(np.rint(pixels).astype(np.uint8))
        draw = ImageDraw.Draw(picture)
        for patch in self._patches:
            left, top, right, bottom = self._box(patch)
            if patch.is_missed:
                _ring(draw, (left, top, right, bottom))
            elif patch.is_false_alarm:
                _cross(draw, (left, top, right, bottom))
        return _with_legend(picture)

    @property
    def _line(self) -> int:
        return 1 if max(self._pixels.shape) < 400 else 2

    def _box(self, patch: Patch) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in the picture; neighbours share their edge whatever the scale."""
        edges = (
            (patch.x - self._left, self._pixels.shape[1]),
            (patch.y - self._top, self._pixels.shape[0]),
            (patch.x - self._left + patch.width, self._pixels.shape[1]),
            (patch.y - self._top + patch.height, self._pixels.shape[0]),
        )
        left, top, right, bottom = (min(round(edge * self._scale), most) for edge, most in edges)
        return left, top, right, bottom

    def _minority_mask(self) -> MaskArray:
        mask = np.zeros(self._pixels.shape[:2], dtype=np.bool_)
        for patch in self._patches:
            if patch.is_minority:
                left, top, right, bottom = self._box(patch)
                mask[top:bottom, left:right] = True
        return mask


def colour_of(p: float) -> np.ndarray:
    """``[3]`` RGB 0…255 of a probability."""
    return 255.0 * np.asarray(matplotlib.colormaps[_COLOURS](float(np.clip(p, 0.0, 1.0)))[:3])


def outline(pixels: npt.NDArray[Any], mask: MaskArray, line: int = 1) -> None:
    """Draw along the inside of a mask's border, in place: a black rim, and yellow within it.

    Args:
        pixels: ``[H, W, 3]`` RGB 0…255.
        mask: ``[H, W]``.
        line: width of each of the two in pixels.
    """
    pixels[border_of(mask, 2 * line)] = _MINORITY
    pixels[border_of(mask, line)] = _RIM


def border_of(mask: MaskArray, width: int) -> MaskArray:
    """The pixels of a mask that lie within ``width`` of its outside; the picture's edge is outside."""
    inner = mask.copy()
    for _ in range(width):
        padded = np.pad(inner, 1)
        inner = (
            padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        )
    return mask & ~inner


def _mark(box: tuple[int, int, int, int]) -> tuple[float, float, float]:
    """Centre and half side of a mark in a field."""
    left, top, right, bottom = box
    reach = max(2.5, min(0.3 * min(right - left, bottom - top), 14.0))
    return (left + right - 1) / 2, (top + bottom - 1) / 2, reach


# White below black, so that marks are seen on any colour.
def _ring(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int]) -> None:
    x, y, reach = _mark(box)
    line = max(1, round(reach / 4))
    draw.ellipse(
        (x - reach - 1, y - reach - 1, x + reach + 1, y + reach + 1), outline="white", width=line + 2
    )
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), outline="black", width=line)


def _cross(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int]) -> None:
    x, y, reach = _mark(box)
    line = max(1, round(reach / 4))
    for colour, width in (("white", line + 2), ("black", line)):
        draw.line((x - reach, y - reach, x + reach, y + reach), fill=colour, width=width)
        draw.line((x - reach, y + reach, x + reach, y - reach), fill=colour, width=width)


def _with_legend(picture: Image.Image) -> Image.Image:
    """The picture with a scale of probabilities and the meaning of the marks below it."""
    words = (("ring", "missed"), ("cross", "false alarm"), ("box", "labelled"))
    # Wide pictures are shown reduced, on phones to a third; the letters grow with them.
    unit = max(1.0, picture.width / _LEGEND_WIDTH)
    font = ImageFont.load_default(_TEXT * unit)
    box = round(16 * unit)
    canvas = Image.new(
        "RGB", (max(picture.width, _LEGEND_WIDTH), picture.height + round(_LEGEND * unit)), "white"
    )
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    top, left = picture.height + round(12 * unit), round(6 * unit)
    middle = top + box / 2

    def write(text: str, gap: float) -> None:
        nonlocal left
        draw.text((left, middle), text, fill="black", font=font, anchor="lm")
        left += round(font.getlength(text) + gap * unit)

    write("p 0", 5)
    scale_width = round(70 * unit)
    for column in range(scale_width):
        red, green, blue = np.rint(255.0 + _OPACITY * (colour_of(column / (scale_width - 1)) - 255.0))
        draw.line((left + column, top, left + column, top + box), fill=(int(red), int(green), int(blue)))
    draw.rectangle((left, top, left + scale_width - 1, top + box), outline=(120, 120, 120))
    left += scale_width + round(5 * unit)
    write("1", 14)
    for kind, word in words:
        field = (left, top, left + box, top + box)
        if kind == "ring":
            _ring(draw, field)
        elif kind == "cross":
            _cross(draw, field)
        else:
            line = max(2, round(2 * unit))
            draw.rectangle(field, outline=_MINORITY, width=2 * line)
            draw.rectangle(field, outline=_RIM, width=line)
        left += box + round(6 * unit)
        write(word, 12)
    return canvas


def png_bytes(picture: Image.Image) -> bytes:
    """A PNG file; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=4)  # the smallest files would take ten times as long
    return buffer.getvalue()
