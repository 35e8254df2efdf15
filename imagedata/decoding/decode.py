"""The one way from an image file to pixels, used by training and by scoring alike.

Pillow in strict mode is the arbiter of what an image is: it reads what it can read whole and raises
for the rest. Nothing here needs torch.
"""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from contracts.errors import ImageError, UsageError
from contracts.rows import ImageArray
from imagedata.decoding.deep_tiff import deep_tiff, is_deep_colour
from imagedata.decoding.dicom import is_dicom, open_dicom
from imagedata.decoding.formats import formats_for
from imagedata.decoding.region import Region
from imagedata.decoding.shape import FITS, MIN_SIDE, Fit, in_square
from imagedata.decoding.truncation import require_whole

MAX_PIXELS = 100_000_000
"""Largest width × height that is decoded; a header may claim any size, and memory is finite."""

MAX_FILE_BYTES = 1 << 30
"""Largest file that is read."""

_BLOCK_BYTES, _BLOCKS_KEPT = 1 << 20, 8
"""Of Pillow's own memory, see :func:`reuse_pixel_memory`."""

_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


@dataclass(frozen=True)
class DecodeSettings:
    """How files become pixels; stored in the exported file so that scoring repeats training.

    Attributes:
        size: side of the square working image, in pixels.
        window: grey values ``(low, high)`` of 16-bit, 32-bit and float images that become 0 and 255.
            None means the full range of 16 bits, 0…65535; float images then have no defined range.
        scaled: JPEGs of at least twice ``size`` on both sides are reduced to a half, a quarter or an eighth
            while they are decoded, as far as ``size`` allows. Several times as fast; on photographs of
            1,024 px at 224 and 256 px, pixels differ from the ordinary ones by 1 to 1.5 of 255 levels in the
            mean (3 on a field of stars), 99 of 100 by at most 12, single ones by up to 50. A property of the
            model, never of a run: what it was trained on is what it is to score.
        fit: how a picture that is no square becomes one; see :data:`imagedata.decoding.shape.Fit`.
        region: the part of the picture that is looked at, before it is resized; None for all of it.

    Raises:
        UsageError: low is not below high; no such fit; a region of JPEGs that are reduced while they are
            decoded, which would mix pixels across its border.
    """

    size: int
    window: tuple[float, float] | None = None
    scaled: bool = False
    fit: Fit = "squeeze"
    region: Region | None = None

    def __post_init__(self) -> None:
        """Refuse a window that has no width: every pixel would be a division by zero."""
        if self.window is not None and not self.window[0] < self.window[1]:
            raise UsageError(f"window is {list(self.window)}; give [low,high] with low below high.")
        if self.fit not in FITS:
            raise UsageError(f"fit is '{self.fit}'; it is one of {', '.join(FITS)}.")
        if self.scaled and self.region is not None:
            raise UsageError(
                "scaled_jpeg and roi: JPEGs that are reduced while they are decoded mix pixels across the "
                "border of the region. Leave one of the two out."
            )

    @property
    def without_region(self) -> DecodeSettings:
        """Of pictures that were cut to the region before they were written."""
        return self if self.region is None else replace(self, region=None)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON facts."""
        facts: dict[str, Any] = {"size": self.size, "window": list(self.window) if self.window else None}
        # Named where it is on only, so that digests of all that was made without it stay what they were.
        facts |= {"scaled": True} if self.scaled else {}
        facts |= {"fit": self.fit} if self.fit != "squeeze" else {}
        return facts | ({"region": self.region.to_json()} if self.region else {})

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> DecodeSettings:
        """Rebuild settings written by :meth:`to_json`."""
        window = document.get("window")
        return cls(
            size=int(document["size"]),
            window=(float(window[0]), float(window[1])) if window else None,
            scaled=bool(document.get("scaled", False)),
            fit=document.get("fit", "squeeze"),
            region=Region.from_json(document["region"]) if document.get("region") else None,
        )


@dataclass(frozen=True)
class DecodedImage:
    """Pixels at working size, and facts about the file they came from.

    Attributes:
        pixels: ``[S, S, 3]`` uint8 RGB.
        width: stored width in pixels, before EXIF orientation and resizing.
        height: stored height in pixels.
        mode: Pillow's name of the stored pixel type, such as ``RGB``, ``L``, ``CMYK``, ``I;16``.
    """

    pixels: ImageArray
    width: int
    height: int
    mode: str


def read_image_bytes(path: Path) -> bytes:
    """Read a file that should be an image.

    Raises:
        ImageError: the file is missing, unreadable, empty, larger than :data:`MAX_FILE_BYTES`, or no
            regular file (a pipe or a device might never end).
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ImageError("not a regular file.", rule="unreadable")
        if facts.st_size > MAX_FILE_BYTES:
            raise ImageError(
                f"file has {facts.st_size:,} bytes; the limit is {MAX_FILE_BYTES:,}.", rule="bomb"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}.", rule="unreadable") from error
    if not data:
        raise ImageError("file is empty (0 bytes).", rule="empty")
    return data


def decode_file(path: Path, settings: DecodeSettings) -> DecodedImage:
    """Decode one file to the working size.

    Raises:
        ImageError: with a reason that stands for itself in a table of failed images.
    """
    return decode_bytes(read_image_bytes(path), settings)


def decode_bytes(data: bytes, settings: DecodeSettings) -> DecodedImage:
    """Decode the bytes of one image file to the working size.

    Steps, in order: header checks, strict decoding of the first frame (of large JPEGs at a fraction of their
    size, where the settings say so), EXIF orientation, 16-bit
    windowing, alpha onto black, RGB, the region of interest, antialiased bilinear resize to a square.

    Args:
        data: the whole file.
        settings: working size, window, region and fit.

    Returns:
        The pixels and the stored size and mode.

    Raises:
        ImageError: not an image, truncated, damaged, too large, too small, or without a defined range.
    """
    scaled_to = settings.size if settings.scaled else None
    with _upright(data, settings.window, scaled_to) as (shown, width, height, mode):
        return DecodedImage(_at_working_size(shown, settings), width, height, mode)


def pixels_at_working_size(pixels: ImageArray, settings: DecodeSettings) -> ImageArray:
    """What :func:`decode_bytes` makes of a file, of pixels that are decoded already.

    Args:
        pixels: ``[H, W, 3]`` uint8 RGB, upright, at the size in which they are stored.
        settings: working size, region and fit.

    Returns:
        ``[S, S, 3]`` uint8 RGB.

    Raises:
        ImageError: they have not the proportions of the region's mask, or too little lies in the region.
    """
    return _at_working_size(Image.fromarray(pixels), settings)


def decode_at_stored_size(data: bytes, window: tuple[float, float] | None) -> Image.Image:
    """Decode the bytes of one image file to 8-bit RGB, upright, without resizing.

    Raises:
        ImageError: as :func:`decode_bytes`.
    """
    with _upright(data, window) as (shown, *_):
        return shown.copy() if shown.mode == "RGB" else shown.convert("RGB")


@contextmanager
def _upright(
    data: bytes, window: tuple[float, float] | None, scaled_to: int | None = None
) -> Iterator[tuple[Image.Image, int, int, str]]:
    """The upright picture, and stored width, height and mode; ``scaled_to`` lets JPEGs be reduced.

    It is of mode RGB, or L where it is stored in 8-bit grey: one channel is resized in less than half of the
    time, and three equal ones become the same pixels.
    """
    with opened_image(data) as image:
        width, height, mode = image.width, image.height, image.mode
        if scaled_to:  # after the check: the header alone decides what is refused
            image.draft(None, (scaled_to, scaled_to))
        is_deep = window is not None and is_deep_colour(image)
        load_whole(image, data)
        shown = _deep_colour(data, image, window) if window and is_deep else image
        ImageOps.exif_transpose(shown, in_place=True)  # a copy would cost a tenth of decoding
        is_grey = shown.mode == "L" and "transparency" not in shown.info
        yield shown if is_grey else to_rgb(shown, window), width, height, mode


def _at_working_size(shown: Image.Image, settings: DecodeSettings) -> ImageArray:
    """``[S, S, 3]`` of an upright picture of mode RGB or L."""
    if settings.region is not None:
        shown = settings.region.cut(shown)
    square = in_square(shown, settings.size, settings.fit)
    return np.array(square if square.mode == "RGB" else square.convert("RGB"), dtype=np.uint8)


@contextmanager
def opened_image(data: bytes) -> Iterator[Image.Image]:
    """Open the bytes of an image file: header checked, pixels not decoded yet.

    Whatever goes wrong inside the block is an :class:`ImageError`, so that whoever decodes by this door
    accepts and refuses the same files.

    Args:
        data: the whole file.

    Yields:
        The first frame; :func:`load_whole` decodes it inside the block.

    Raises:
        ImageError: not an image, truncated, damaged, too large or too small; its ``rule`` says which.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        # Somebody in this process switched strictness off; half an image must never pass for a whole one.
        raise ImageError("Pillow's LOAD_TRUNCATED_IMAGES is on; switch it off to tell broken images apart.")
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 megapixels on; our own header check right below decides instead.
            warnings.simplefilter("ignore")
            with _open(data) as image:
                _check_size(image.width, image.height)
                yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not an image that Pillow can identify.", rule="not_an_image") from error
    except Image.DecompressionBombError as error:  # raised while the header is read, before our own check
        raise ImageError(
            f"header claims too many pixels; the limit is {MAX_PIXELS:,} in all.", rule="bomb"
        ) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on hostile bytes
        reason = str(error).strip() or "no further reason given"
        raise ImageError(f"broken image ({type(error).__name__}: {reason[:200]}).") from error


def reuse_pixel_memory() -> None:
    """Let Pillow keep a few MiB of freed pixels for the next image of this process.

    For processes of our own that decode one image after another: asking the system for fresh pages each time
    takes a tenth of decoding a picture of 256 px. What is kept is bounded and does not grow with the images.
    """
    memory = Image.core  # type: ignore[attr-defined]  # named by Pillow's documentation, not by its types
    memory.set_block_size(_BLOCK_BYTES)
    memory.set_blocks_max(_BLOCKS_KEPT)


def load_whole(image: Image.Image, data: bytes) -> None:
    """Decode the pixels of an opened image; refuse them where some of them are the decoder's own invention.

    Raises:
        ImageError: the file ends before the picture does; other faults as :func:`opened_image` has them.
    """
    image.load()
    require_whole(image, data)


def _open(data: bytes) -> Image.Image:
    """Open by content: DICOM by its own reader, everything else by Pillow, of the accepted formats only."""
    if is_dicom(data):
        return open_dicom(data, _check_size)
    return Image.open(io.BytesIO(data), formats=formats_for(data))


def _deep_colour(data: bytes, image: Image.Image, window: tuple[float, float]) -> Image.Image:
    """Colours of 16 bits by a window; Pillow alone would drop their low bytes and pass the window over."""
    if image.format != "TIFF":
        raise ImageError(f"16-bit colour {image.format}, to which no window can be applied; save it as TIFF.")
    return deep_tiff(data, window)


def _check_size(width: int, height: int) -> None:
    """Refuse by the header alone what would exhaust memory or carry no evidence."""
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"header claims {width}x{height} pixels; the limit is {MAX_PIXELS:,} in all.", rule="bomb"
        )
    if width < MIN_SIDE or height < MIN_SIDE:
        raise ImageError(
            f"image is {width}x{height} pixels; at least {MIN_SIDE}x{MIN_SIDE} are needed.", rule="too_small"
        )


def to_rgb(image: Image.Image, window: tuple[float, float] | None) -> Image.Image:
    """Bring any pixel type to 8-bit RGB without saturating deep images or inventing colours.

    Returns:
        ``image`` itself, not a copy, where it is RGB already.
    """
    if image.mode in _DEEP_MODES:
        return _apply_window(image, window)
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        # What lies under full transparency is arbitrary; black says "nothing here".
        with_alpha = image.convert("RGBA")
        canvas = Image.new("RGBA", with_alpha.size, (0, 0, 0, 255))
        return Image.alpha_composite(canvas, with_alpha).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _apply_window(image: Image.Image, window: tuple[float, float] | None) -> Image.Image:
    """Map grey values low…high to 0…255. Pillow's own conversion would clip at 255 instead."""
    grey = np.asarray(image, dtype=np.float64)
    if not np.isfinite(grey).all():
        raise ImageError("float image holds values that are not finite.")
    if window is None:
        if image.mode == "F" or grey.min() < 0 or grey.max() > 65535:
            raise ImageError(
                f"grey values run from {grey.min():g} to {grey.max():g}, outside 16 bits; "
                "state the range with -o window=[low,high]."
            )
        window = (0.0, 65535.0)
    low, high = window
    scaled = np.clip((grey - low) / (high - low), 0.0, 1.0) * 255.0
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")
