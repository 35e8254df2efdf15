"""A contact sheet: real, reconstructed and generated images of the classes that got synthetic rows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from contracts.rows import ImageArray

_TILE = 64
_GAP = 4
_CAPTION = 20
_MARGIN = 12
_LEAST_WIDTH = 480
_PAPER = (255, 255, 255)
_INK = (30, 30, 30)
_FAINT = (110, 110, 110)
_MOST_CLASSES = 20


@dataclass(frozen=True)
class ClassPictures:
    """Pictures of one class, one row of each kind.

    Attributes:
        title: name of the class for the caption.
        n_real: training rows of the class.
        n_generated: synthetic rows of the class.
        real: ``[a, s, s, 3]`` uint8 RGB.
        reconstructed: ``[a, s, s, 3]``, decoded from the codes of ``real``.
        generated: ``[b, s, s, 3]``.
    """

    title: str
    n_real: int
    n_generated: int
    real: ImageArray
    reconstructed: ImageArray
    generated: ImageArray


def contact_sheet(title: str, classes: Sequence[ClassPictures]) -> bytes:
    """PNG with three captioned rows of pictures per class, for at most the 20 classes with the fewest rows.

    Equal pictures give equal bytes.

    Args:
        title: heading of the sheet.
        classes: in the order in which they are shown.
    """
    rarest = sorted(range(len(classes)), key=lambda position: classes[position].n_real)[:_MOST_CLASSES]
    shown = [classes[position] for position in sorted(rarest)]
    heading = title if len(shown) == len(classes) else f"{title}: the {len(shown)} rarest of {len(classes)}"
    lines = [line for pictures in shown for line in _lines(pictures)]
    columns = max((len(images) for _, images in lines), default=0)
    width = max(2 * _MARGIN + columns * (_TILE + _GAP), _LEAST_WIDTH)
    height = 2 * _MARGIN + _CAPTION + len(lines) * (_CAPTION + _TILE + _GAP)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), heading, fill=_INK, font=ImageFont.load_default(16))
    small = ImageFont.load_default(13)
    for number, (caption, images) in enumerate(lines):
        top = _MARGIN + _CAPTION + number * (_CAPTION + _TILE + _GAP)
        draw.text((_MARGIN, top + 2), caption, fill=_INK if number % 3 == 0 else _FAINT, font=small)
        for column, pixels in enumerate(images):
            # Nearest-neighbour scaling shows the pixels that the network saw, enlarged.
            tile = Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.NEAREST)
            sheet.paste(tile, (_MARGIN + column * (_TILE + _GAP), top + _CAPTION))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _lines(pictures: ClassPictures) -> list[tuple[str, ImageArray]]:
    """Caption and pictures of the three rows of a class."""
    return [
        (f"{pictures.title}: {len(pictures.real)} of {pictures.n_real} real images", pictures.real),
        ("the same, reconstructed", pictures.reconstructed),
        (f"{len(pictures.generated)} of {pictures.n_generated} generated", pictures.generated),
    ]
