"""One look at a file: read once, decoded once, and what every later question needs kept in two kilobytes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from contracts.errors import ImageError
from imagedata.decoding.decode import load_whole, opened_image, read_image_bytes, to_rgb

THUMBNAIL_SIDE = 32
"""Pixels a side of the grey thumbnail that copies are told by."""

ANALYSED_SIDE = 256
"""Larger images are made so small before sharpness and spread are measured; JPEG by its own scaling."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)

_COMMENTS = ("comment", "Comment", "Software", "Description", "xmp", "XML:com.adobe.xmp")
_LOSSY = frozenset({"WEBP", "AVIF", "HEIF", "JPEG2000"})  # and without tables that could be read
_REFERENCE_QUALITY = 75

_ODDEST_ORIENTATION = 1 << 32

_CORNER = 2  # pixels of the thumbnail, a sixteenth of the side
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's "L"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What one look at a file found.

    Attributes:
        sha256: of the file's bytes; empty when it could not be read.
        n_bytes: size of the file; 0 when it could not be read.
        rule: name of the rule by which the file is refused; empty when it can be used.
        problem: the same in a sentence.
        width: stored width in pixels; 0 when refused, like everything below.
        height: stored height in pixels.
        mode: Pillow's pixel type.
        file_format: Pillow's name of the format, such as ``JPEG``, whatever the file is called.
        is_animated: it holds more than one picture, of which the first is used.
        orientation: EXIF orientation, 1 to 8 by the standard; 0 where the file states none.
        lacks_end: all pixels are there, but the format's end mark is not.
        encoding: :data:`ENCODING` in numbers; -1 for what the format does not have.
        metadata: :data:`METADATA` in numbers; -1 where no resolution is stated.
        excess_bits: binary logarithm of the file's bits per pixel over those of its own picture as a JPEG of
            fixed quality; 0 for formats that state their quality (JPEG) or have none (lossless ones).
        sharpness: variance of the Laplacian over grey values 0…255, at most :data:`ANALYSED_SIDE` a side.
        spread: standard deviation of the same grey values.
        colour: mean red, green and blue, 0…255.
        corners: ``4 * 3`` mean colours of the corners, a sixteenth of the side each.
        thumbnail: ``32 * 32`` grey values, row by row; stretched to a square as for training.
    """

    sha256: str
    n_bytes: int
    rule: str = ""
    problem: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    file_format: str = ""
    is_animated: bool = False
    orientation: int = 0
    lacks_end: bool = False
    encoding: tuple[float, ...] = ()
    metadata: tuple[float, ...] = ()
    excess_bits: float = 0.0
    sharpness: float = 0.0
    spread: float = 0.0
    colour: tuple[float, ...] = ()
    corners: tuple[float, ...] = ()
    thumbnail: bytes = b""

    @property
    def is_usable(self) -> bool:
        """Whether training and scoring would read it."""
        return not self.rule


ENCODING = ("luminance quantisation", "chrominance quantisation", "progressive", "zlib level")
"""What :attr:`FileFacts.encoding` holds: means of JPEG's tables, a flag, and the level 0 to 3 that a PNG's
stream states."""

METADATA = ("profile", "exif", "comment", "dpi")
"""What :attr:`FileFacts.metadata` holds: three flags, and dots per inch."""


def look_at_file(path: Path, window: tuple[float, float] | None = None) -> FileFacts:
    """Read, hash, decode and measure one file; a broken one is a finding, never an error.

    Args:
        path: the file; it is only read.
        window: of 16-bit images, as for training.
    """
    try:
        data = read_image_bytes(path)
    except ImageError as error:
        return FileFacts("", 0, error.rule, str(error))
    return look_at_bytes(data, window)


def look_at_bytes(data: bytes, window: tuple[float, float] | None = None) -> FileFacts:
    """The same of a file's bytes."""
    digest = hashlib.sha256(data).hexdigest()
    found: dict[str, Any] = {"file_format": ""}
    try:
        with opened_image(data) as image:
            found["file_format"] = image.format or ""
            found.update(_header_facts(image, data))
            if max(image.size) > ANALYSED_SIDE and image.format == "JPEG":
                # libjpeg then decodes an eighth to a half of each side; damage is refused all the same.
                image.draft(image.mode, (ANALYSED_SIDE, ANALYSED_SIDE))
            load_whole(image, data)
            orientation = image.getexif().get(0x0112, 0)
            # Whatever a header claims; no number of the standard, and few of any kind, are larger.
            is_number = isinstance(orientation, int) and abs(orientation) < _ODDEST_ORIENTATION
            found["orientation"] = orientation if is_number else -1
            upright = ImageOps.exif_transpose(image) if orientation else image
            rgb = analysed(to_rgb(upright, window))
            found["excess_bits"] = excess_bits(data, image, rgb)
    except ImageError as error:
        rule = error.rule
        # Of what is cut within its header, not even the format is identified.
        file_format = found["file_format"] or (_signed_format(data) if rule == "not_an_image" else "")
        is_judged = rule == "broken" or (rule == "not_an_image" and bool(file_format))
        if is_judged and ends_early(data, file_format, str(error)):
            rule = "truncated"
        return FileFacts(digest, len(data), rule, str(error), file_format=found["file_format"])
    found.update(_pixel_facts(rgb))
    return FileFacts(digest, len(data), lacks_end=lacks_end(data, found["file_format"]), **found)


def _header_facts(image: Image.Image, data: bytes) -> dict[str, Any]:
    """Facts that need no pixels."""
    tables = getattr(image, "quantization", None) or {}
    means = [float(np.mean(tables[key])) for key in sorted(tables)[:2]]
    dpi = image.info.get("dpi", (-1.0,))
    try:
        dots = float(dpi[0])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):  # whatever a header claims
        dots = -1.0
    info = image.info
    encoding = (*[*means, -1.0, -1.0][:2], float(bool(info.get("progressive"))), zlib_level(data))
    metadata = (
        float("icc_profile" in info),
        float("exif" in info),
        float(any(key in info for key in _COMMENTS)),
        dots if np.isfinite(dots) else -1.0,
    )
    return {
        "width": image.width,
        "height": image.height,
        "mode": image.mode,
        "is_animated": bool(getattr(image, "is_animated", False)),
        # Of the width that the table of facts keeps, so that they come back as they were put in.
        "encoding": tuple(float(np.float32(each)) for each in encoding),
        "metadata": tuple(float(np.float32(each)) for each in metadata),
    }


def zlib_level(data: bytes) -> float:
    """The level, 0 (fastest) to 3 (smallest), that the stream of a PNG states; -1 for other files."""
    at = data.find(b"IDAT", 8, 1 << 20) if data.startswith(b"\x89PNG") else -1
    return float(data[at + 5] >> 6) if 0 <= at < len(data) - 5 else -1.0


def excess_bits(data: bytes, image: Image.Image, rgb: Image.Image) -> float:
    """How many times, in octaves, a lossy file spends the bits that its own picture needs at a fixed quality.

    The size of a file follows the texture it shows, which is the subject's own; only against that does it
    tell the setting of a program. JPEG states its quality by its tables, and lossless formats have none.

    Args:
        data: the whole file.
        image: as opened.
        rgb: its upright picture, at most :data:`ANALYSED_SIDE` a side.
    """
    is_lossless = image.format == "WEBP" and b"VP8L" in data[:4096]
    if image.format not in _LOSSY or is_lossless:
        return 0.0
    buffer = io.BytesIO()
    rgb.convert("L").save(buffer, "JPEG", quality=_REFERENCE_QUALITY)
    own = 8 * len(buffer.getvalue()) / (rgb.width * rgb.height)
    return float(np.float32(np.log2(8 * len(data) / (image.width * image.height) / own)))


def analysed(rgb: Image.Image) -> Image.Image:
    """The picture at the size that is measured: itself, or reduced to :data:`ANALYSED_SIDE` pixels."""
    if max(rgb.size) <= ANALYSED_SIDE:
        return rgb
    scale = ANALYSED_SIDE / max(rgb.size)
    size = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
    return rgb.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _pixel_facts(rgb: Image.Image) -> dict[str, Any]:
    """Measures of an upright RGB image of at most :data:`ANALYSED_SIDE` a side."""
    grey = np.asarray(rgb.convert("L"))
    small = np.asarray(
        rgb.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR), dtype=np.float32
    )
    near, far = slice(0, _CORNER), slice(-_CORNER, None)
    corners = [small[y, x].mean(axis=(0, 1)) for y in (near, far) for x in (near, far)]
    return {
        "sharpness": laplacian_variance(grey),
        "spread": float(grey.std()),
        "colour": tuple(small.mean(axis=(0, 1)).tolist()),
        "corners": tuple(np.concatenate(corners).tolist()),
        "thumbnail": np.rint(small @ _LUMA).astype(np.uint8).tobytes(),
    }


def laplacian_variance(grey: npt.NDArray[np.uint8]) -> float:
    """Variance of the 4-neighbour Laplacian over the inner pixels (Pech-Pacheco et al. 2000).

    Args:
        grey: ``[H, W]`` 0…255.

    Returns:
        0 for a flat image or a slope, thousands for noise; 0 where there is no inner pixel.
    """
    if min(grey.shape) < 3:
        return 0.0
    g = grey.astype(np.int16)
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
    return float(laplacian.var(dtype=np.float32))


def lacks_end(data: bytes, file_format: str) -> bool:
    """Whether a JPEG or PNG file lacks the mark it ends with; what follows the mark does not count."""
    if file_format in {"JPEG", "MPO"}:
        return b"\xff\xd9" not in data[-4096:] and b"\xff\xd9" not in data
    if file_format == "PNG":
        return b"IEND" not in data[-4096:] and b"IEND" not in data
    return False


def _signed_format(data: bytes) -> str:
    """The format that a file's first bytes claim, of those that say where they end; empty for others."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for start, name in _SIGNATURES if data.startswith(start)), "")


def ends_early(data: bytes, file_format: str, problem: str) -> bool:
    """Whether a refused file is one that ends before its end, by its own structure or the decoder's word.

    Args:
        data: the whole file.
        file_format: as identified; empty where not even the header could be read.
        problem: what the decoder said.
    """
    said = problem.lower()
    if any(word in said for word in ("truncat", "unexpected end", "premature", "not enough", "short")):
        return True
    if data[:4] == b"RIFF" and len(data) >= 12:
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data[:2] == b"BM" and len(data) >= 6:
        return int.from_bytes(data[2:6], "little") > len(data)
    if file_format == "TIFF" and len(data) >= 8:
        # Where the directory of the picture lies; most programs write it behind the pixels.
        return int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big") >= len(data)
    if file_format == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    return lacks_end(data, file_format)
