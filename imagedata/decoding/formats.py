"""Which image formats are read, by which endings they are found, and how the first bytes give them away."""

from __future__ import annotations

import re
from importlib import import_module

from PIL import Image

from contracts.errors import ImageError

# Formats that hold one still picture of pixels (or several, of which the first is the picture), in the order
# in which they are tried. Left out on purpose, although Pillow opens them:
# - EPS, WMF, EMF: drawings; Pillow hands EPS to Ghostscript, which runs the program that the file is.
# - FLI, MPEG: video. DCX, ICO, CUR, ICNS: fax pages and icons, several pictures of unlike sizes.
# - PSD: layers, whose composite is optional. BLP, DDS, FTEX: textures of games. GBR: a brush.
# - BUFR, GRIB, HDF5, FITS, MCIDAS, SPIDER, IM, PIXAR: measurements without a defined range of grey values;
#   Pillow reads some of them through handlers that are not installed, and unpacks FITS without a limit.
# - IMT, IPTC, MSP, PCD, SGI, SUN, XBM, XPM, XVTHUMB: text, or formats so old that their decoders are hardly
#   ever tested with hostile files.
_PLUGIN_OF_FORMAT = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "BMP": "BmpImagePlugin",
    "DIB": "BmpImagePlugin",
    "GIF": "GifImagePlugin",
    "TIFF": "TiffImagePlugin",
    "WEBP": "WebPImagePlugin",
    "AVIF": "AvifImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "MPO": "MpoImagePlugin",
    "PPM": "PpmImagePlugin",
    "QOI": "QoiImagePlugin",
    "PCX": "PcxImagePlugin",
    "TGA": "TgaImagePlugin",  # last: it has no signature, so that Pillow tries it on anything
}

# .vst and the like are Targa's by Pillow's list, but other programs use them for other things.
_AMBIGUOUS_SUFFIXES = frozenset({".icb", ".vda", ".vst"})

_DICOM_SUFFIXES = (".dcm",)
_HEIC_SUFFIXES = (".heic", ".heif", ".hif")


def _load_plugins() -> None:
    """Import the readers of the accepted formats only; all of Pillow's would take twice as long."""
    for plugin in set(_PLUGIN_OF_FORMAT.values()):
        try:
            import_module(f"PIL.{plugin}")
        except ImportError:  # an older Pillow, such as one without AVIF
            continue


_load_plugins()

PILLOW_FORMATS = tuple(name for name in _PLUGIN_OF_FORMAT if name in Image.OPEN)
"""Names of the formats that this installation of Pillow may open, in the order in which it tries them."""

IMAGE_SUFFIXES = frozenset(
    {
        *(suffix for suffix, name in Image.EXTENSION.items() if name in _PLUGIN_OF_FORMAT),
        # Always looked for: without the extra that reads them they fail and name it; none is passed over.
        *_DICOM_SUFFIXES,
        *_HEIC_SUFFIXES,
    }
    - _AMBIGUOUS_SUFFIXES
)
"""File name endings, lower case, that are looked for in folders. The content decides what a file is."""

FIRST_BYTES = 132
"""Bytes that :func:`looks_like_image` wants to see; DICOM's signature ends there."""

_SIGNATURES = re.compile(
    rb"\xff\xd8\xff"  # JPEG
    rb"|\x89PNG\r\n\x1a\n"
    rb"|GIF8[79]a"
    rb"|II\*\0|MM\0\*|II\+\0|MM\0\+"  # TIFF, BigTIFF, and the raw files of most cameras
    rb"|RIFF....WEBP"
    rb"|\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"  # JPEG 2000, in its box and bare
    rb"|\0\0\0\x0cJXL \r\n\x87\n"
    rb"|....ftyp(?:avi[fs]|he[iv][cxms]|mif1|msf1|crx )"  # AVIF, HEIC, and Canon's raw files
    rb"|BM....\0\0\0\0....[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"  # BMP: reserved zeros, then a known header
    rb"|P[1-6][ \t\r\n]+(?:#|\d+[ \t\r\n]+\d)"  # PBM, PGM, PPM
    rb"|qoif|8BPS\0|DDS |v/1\x01"  # QOI, and what is not accepted: PSD, DDS, OpenEXR
    rb"|.{128}DICM",
    re.DOTALL,
)

_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


def looks_like_image(first: bytes) -> bool:
    """Whether a file's first :data:`FIRST_BYTES` are those of an image, accepted or not.

    Used on files that are not named like images. Formats without a signature, such as Targa, are not seen.
    """
    return _SIGNATURES.match(first) is not None


def formats_for(data: bytes) -> tuple[str, ...]:
    """Names of the formats that Pillow is to try on a file's bytes.

    Raises:
        ImageError: a HEIC file, and ``pillow-heif`` is not installed.
    """
    return _heic_format() if _is_heic(data) else PILLOW_FORMATS


def _is_heic(data: bytes) -> bool:
    """Whether the first box (ISO/IEC 23008-12) names HEIC as a brand, and not AVIF, which is its kin."""
    if data[4:8] != b"ftyp":
        return False
    box = data[: min(int.from_bytes(data[:4], "big"), 1024)]
    # The major brand, four bytes of version, then the compatible brands.
    brands = {box[at : at + 4] for at in (8, *range(16, len(box), 4))}
    return bool(brands & _HEIC_BRANDS) and not brands & _AVIF_BRANDS


def _heic_format() -> tuple[str, ...]:
    """Register pillow-heif with Pillow, once; imported no earlier, since most people have no such file."""
    if "HEIF" not in Image.OPEN:
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise ImageError(
                "HEIC file, and pillow-heif is not installed. Give: pip install 'outnumbered[heic]'"
            ) from error
        register_heif_opener(thumbnails=False)
    return ("HEIF",)
