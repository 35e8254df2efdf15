"""What a file can be found to be, by name: the rule, how grave it is, and a sentence about each file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from imagedata.audit.fact_table import FactTable
from imagedata.audit.facts import THUMBNAIL_SIDE, FileFacts

Severity = Literal["invalid", "warning", "note"]
"""``invalid``: results would claim more than is true. ``warning``: worth a look; training copes.
``note``: a fact that decoding takes care of."""

TINY_SIDE = 32
"""Smallest side in pixels that is not called tiny."""

FLAT_SPREAD = 3.0
"""Standard deviation of grey values below which an image is near-constant."""

DARK_LEVEL = 32
"""An image is very dark where 95 of 100 thumbnail pixels lie below this grey value."""

BLURRED_SHARPNESS = 1.5
BLURRED_SHARE = 1 / 50
"""An image is very blurred where its variance of the Laplacian lies below the former, or below this share
of the set's median."""

_SIZE_FACTOR = 16.0  # an outlying area differs from the median by more than this factor
_ASPECT_FACTOR = 2.0
_SPREADS = 6.0  # and by more than so many robust standard deviations
_MAD_TO_STD = 1.4826  # of a normal distribution
_DAMAGED_GREY = (120, 136)  # libjpeg fills what it cannot read with the mean, near 128
_DAMAGED_ROWS = 3
_MOST = int(0.95 * THUMBNAIL_SIDE**2)


@dataclass(frozen=True)
class Rule:
    """A rule that files are found by.

    Attributes:
        name: for machines.
        title: heading for people.
        severity: of every finding by it.
        meaning: what it tells, and what becomes of such files.
    """

    name: str
    title: str
    severity: Severity
    meaning: str


_REFUSED = "Training and scoring leave such files out and say so."

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("unreadable", "Cannot be read", "warning", f"Missing, forbidden, or no file. {_REFUSED}"),
        Rule("empty", "Empty", "warning", f"0 bytes. {_REFUSED}"),
        Rule("not_an_image", "No image", "warning", f"Named like an image, but none. {_REFUSED}"),
        Rule("truncated", "Truncated", "warning", f"The file ends before the picture does. {_REFUSED}"),
        Rule("broken", "Broken", "warning", f"The decoder refuses it. {_REFUSED}"),
        Rule("bomb", "Too large to open", "warning", f"Its header or size would exhaust memory. {_REFUSED}"),
        Rule("too_small", "Too small", "warning", f"Below the least size that is decoded. {_REFUSED}"),
        Rule(
            "region", "Not of the mask's shape", "warning", f"Another shape than the mask of roi. {_REFUSED}"
        ),
        Rule("crashed", "Crashes its reader", "invalid", "It ended the process that read it; remove it."),
        Rule("stalled", "Never ends", "invalid", "It kept its reader busy until it was killed; remove it."),
        Rule("lacks_end", "Lacks its end mark", "warning", "All pixels are there; a copy was cut short."),
        Rule(
            "grey_below",
            "Grey below",
            "warning",
            "The lower rows are one middle grey, as a JPEG damaged within is shown.",
        ),
        Rule("wrong_extension", "Wrong name ending", "note", "The content decides how it is read."),
        Rule("several_frames", "Animated or several pages", "warning", "Only the first picture is used."),
        Rule("cmyk", "CMYK", "note", "Printing colours; converted to RGB without a profile."),
        Rule("deep", "16 bits or more", "warning", "Squeezed to 8 bits by the window; -o window=[low,high]."),
        Rule("orientation", "Turned by EXIF", "note", "Turned upright when decoded."),
        Rule("odd_orientation", "Odd EXIF orientation", "warning", "No value of the standard, so ignored."),
        Rule("tiny", "Tiny", "warning", f"A side below {TINY_SIDE} pixels."),
        Rule("outlying_size", "Outlying size", "warning", "Far larger, smaller or longer than the others."),
        Rule("near_constant", "Near-constant", "warning", "All but one colour; it shows nothing."),
        Rule("very_blurred", "Very blurred", "warning", "Next to no edges, beside the others."),
        Rule("very_dark", "Very dark", "warning", "Nearly all pixels are next to black."),
    )
}
"""Name → rule, gravest for a file first."""


@dataclass(frozen=True, slots=True)
class FileFinding:
    """One file found by one rule.

    Attributes:
        rule: its name, a key of :data:`RULES`.
        path: relative to the data set's root; hostile text.
        sentence: what was found.
    """

    rule: str
    path: str
    sentence: str


def file_findings(paths: Sequence[str], facts: Sequence[FileFacts]) -> list[FileFinding]:
    """Judge every file, by itself and beside the others.

    Args:
        paths: ``[N]`` relative paths.
        facts: ``[N]``.

    Returns:
        Findings in the order of :data:`RULES` and then of the files. A refused file has one finding.
    """
    formats = Image.registered_extensions()
    found: list[FileFinding] = []
    # Of a hundred thousand tiny files, nearly all are told in the same words.
    said: dict[str, str] = {}
    for path, each in zip(paths, facts, strict=True):
        if not each.is_usable:
            found.append(FileFinding(each.rule, path, said.setdefault(each.problem, each.problem)))
            continue
        for rule, sentence in _by_itself(path, each, formats):
            found.append(FileFinding(rule, path, said.setdefault(sentence, sentence)))
    found += [
        FileFinding(rule, paths[position], sentence)
        for rule, position, sentence in _beside_the_others(FactTable.of(facts))
    ]
    order = {name: place for place, name in enumerate(RULES)}
    return sorted(found, key=lambda finding: order[finding.rule])  # stable, so files keep their order


def _by_itself(path: str, facts: FileFacts, formats: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Rule and sentence for what needs no other file."""
    named = formats.get(PurePosixPath(path).suffix.lower())
    kin = {"MPO": "JPEG", "DIB": "BMP"}
    if named is not None and named != kin.get(facts.file_format, facts.file_format):
        yield "wrong_extension", f"named like {named}, holds {facts.file_format}."
    if facts.lacks_end:
        yield "lacks_end", f"the end mark of {facts.file_format} is missing."
    if facts.is_animated:
        yield "several_frames", "holds several pictures, of which the first is used."
    if facts.mode == "CMYK":
        yield "cmyk", "its colours are those of print."
    if facts.mode.startswith(("I", "F")):
        yield "deep", f"its pixels are of type {facts.mode}."
    if facts.orientation not in range(9):
        yield "odd_orientation", f"EXIF orientation {facts.orientation}; the standard has 1 to 8."
    elif facts.orientation > 1:
        yield "orientation", f"EXIF orientation {facts.orientation}, so it is turned or mirrored."
    if min(facts.width, facts.height) < TINY_SIDE:
        yield "tiny", f"{facts.width}x{facts.height} pixels."
    rows = np.frombuffer(facts.thumbnail, np.uint8).reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    if facts.spread < FLAT_SPREAD:
        yield "near_constant", f"standard deviation {facts.spread:.1f} of 255 grey values."
    elif (level := int(np.partition(rows, _MOST, axis=None)[_MOST])) < DARK_LEVEL:
        yield "very_dark", f"95 % of it lie at grey value {level} of 255 or below."
    if facts.file_format in {"JPEG", "MPO"} and facts.spread >= FLAT_SPREAD:
        share = _damaged_rows(rows) / THUMBNAIL_SIDE
        if share:
            yield "grey_below", f"the lower {share:.0%} are one middle grey."


def _damaged_rows(rows: npt.NDArray[np.uint8]) -> int:
    """How many rows at the bottom of a thumbnail are one middle grey; 0 where they are few, or all."""
    low, high = _DAMAGED_GREY
    last = int(rows[-1, 0])
    if not low <= last <= high:
        return 0
    differs = (np.abs(rows.astype(np.int16) - last) > 1).any(axis=1)
    count = len(rows) - 1 - int(np.flatnonzero(differs).max(initial=-1))
    return count if _DAMAGED_ROWS <= count < len(rows) else 0


def _beside_the_others(table: FactTable) -> Iterator[tuple[str, int, str]]:
    """Rule, position and sentence of files that differ from most."""
    usable = np.flatnonzero(table.is_usable)
    if not len(usable):
        return
    width, height, sharpness, spread = (
        np.asarray(table.column(name)[usable], dtype=np.float64)
        for name in ("width", "height", "sharpness", "spread")
    )
    is_flat = spread < FLAT_SPREAD
    is_odd = _is_outlying(np.log(width * height), np.log(_SIZE_FACTOR))
    is_odd |= _is_outlying(np.log(width / height), np.log(_ASPECT_FACTOR))
    typical = f"{np.median(width):.0f}x{np.median(height):.0f}"
    median = float(np.median(sharpness))
    limit = max(BLURRED_SHARPNESS, median * BLURRED_SHARE)
    told: dict[str, tuple[npt.NDArray[np.bool_], Callable[[FileFacts], str]]] = {
        "outlying_size": (
            is_odd,
            lambda each: f"{each.width}x{each.height} pixels, where {typical} are typical.",
        ),
        "very_blurred": (
            (sharpness < limit) & ~is_flat,
            lambda each: f"variance of the Laplacian {each.sharpness:.1f}; the median is {median:.0f}.",
        ),
    }
    for rule, (mask, say) in told.items():
        for position in usable[mask].tolist():
            yield rule, position, say(table[position])


def _is_outlying(values: npt.NDArray[np.float64], least: float) -> npt.NDArray[np.bool_]:
    """``[N]`` whether values lie farther from the median than ``least`` and than six robust deviations."""
    distance = np.abs(values - np.median(values))
    return distance > max(least, _SPREADS * _MAD_TO_STD * float(np.median(distance)))
