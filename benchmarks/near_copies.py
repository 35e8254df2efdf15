"""How well ``check`` tells copies from look-alikes: ``python -m benchmarks.near_copies --data FOLDER``.

Each set gets planted copies of a known kind. Every other close pair of the set is a non-copy, except for the
few true copies that real sets hold, which were looked at one by one and are listed below. Counted are the
planted copies that are found, and the non-copies that are called copies among all close pairs: every pair
that hashes and thumbnails suggest, and the three nearest pictures of every picture.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from evaluation.comparison import clopper_pearson
from imagedata.audit.duplicates import candidates_of
from imagedata.audit.exposures import Pictures, judge
from imagedata.audit.fact_table import FactTable
from imagedata.audit.facts import look_at_bytes

Grey = npt.NDArray[np.uint8]
Change = Callable[[Image.Image, np.random.Generator], Image.Image | bytes]

_NEIGHBOURS = 3
_TINY = 32

TRUE_COPIES: tuple[frozenset[str], ...] = (
    frozenset({"pitted_surface_171.jpg", "pitted_surface_292.jpg"}),
    frozenset({"E63574A7-4188-4C8D-8D17-9D67A18A1AFA.png", "F4341CE7-73C9-45C6-99C8-8567A5484B63.png"}),
)
"""Pairs of file names in real sets that are one exposure, by eye."""


@dataclass
class Counts:
    """Of one set: kind of copy → found and planted; non-copies called copies, and all."""

    copies: dict[str, list[int]] = field(default_factory=dict)
    called: list[tuple[str, str]] = field(default_factory=list)
    non_copies: int = 0
    limit: float = 0.0


def jpeg(image: Image.Image, quality: int) -> bytes:
    """A JPEG of an image."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def resized(image: Image.Image, factor: float) -> Image.Image:
    """An image with sides of ``factor`` times the length."""
    size = (max(8, round(image.width * factor)), max(8, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def cropped(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """An image less ``share`` of each side, somewhere."""
    width, height = (round(side * (1 - share)) for side in image.size)
    x, y = (
        int(rng.integers(0, whole - part + 1))
        for whole, part in zip(image.size, (width, height), strict=True)
    )
    return image.crop((x, y, x + width, y + height))


def dated(image: Image.Image) -> Image.Image:
    """An image with a date in a corner."""
    image = image.copy()
    place = (image.width * 0.05, image.height * 0.92)
    ImageDraw.Draw(image).text(place, "2024-05-17", fill=255, font_size=max(6, image.height // 24))
    return image


KINDS: dict[str, Change] = {
    "JPEG 95": lambda image, _: jpeg(image, 95),
    "JPEG 85": lambda image, _: jpeg(image, 85),
    "JPEG 75": lambda image, _: jpeg(image, 75),
    "resized, x 0.5": lambda image, _: resized(image, 0.5),
    "resized, x 0.75": lambda image, _: resized(image, 0.75),
    "resized, x 1.5": lambda image, _: resized(image, 1.5),
    "resized, x 0.75, JPEG 75": lambda image, _: jpeg(resized(image, 0.75), 75),
    "JPEG 50": lambda image, _: jpeg(image, 50),
    "cropped by 2 %": lambda image, rng: cropped(image, 0.02, rng),
    "cropped by 5 %": lambda image, rng: cropped(image, 0.05, rng),
    "rotated by 1 degree": lambda image, _: image.rotate(1, Image.Resampling.BICUBIC),
    "mirrored, JPEG 85": lambda image, _: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 85),
    "brighter": lambda image, _: image.point(lambda value: min(255, int(value * 1.15 + 8))),
    "small text": lambda image, _: dated(image),
}
_PROMISED = tuple(list(KINDS)[:7])


def frames(count: int, rng: np.random.Generator) -> list[Grey]:
    """Exposures of one object that turns, under light that wavers, each with its own noise."""
    side = 256
    texture = Image.fromarray(rng.integers(0, 256, (180, 180), dtype=np.uint8)).filter(
        ImageFilter.GaussianBlur(1.5)
    )
    pixels = np.asarray(texture, dtype=np.float32)
    part = Image.fromarray(
        np.clip(128 + 35 * (pixels - pixels.mean()) / pixels.std(), 0, 255).astype(np.uint8)
    )
    outline = Image.new("L", part.size, 0)
    ImageDraw.Draw(outline).ellipse((10, 30, 170, 150), fill=255)
    found = []
    for number in range(count):
        scene = Image.new("L", (side, side), 60)
        at = (int(38 + rng.integers(-3, 4)), int(38 + rng.integers(-3, 4)))
        turned, mask = (each.rotate(float(number), Image.Resampling.BICUBIC) for each in (part, outline))
        scene.paste(turned, at, mask)
        noisy = np.asarray(scene) * rng.uniform(0.95, 1.05) + rng.normal(0, 3, (side, side))
        found.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return found


def sets_of(
    data: Path | None, fashion: Path | None, most: int
) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Name and files, at most ``most`` of them, of every set that is at hand."""
    for name, pattern in _FOLDERS.items() if data else ():
        paths = sorted(path for path in (data or Path()).glob(pattern) if path.is_file())
        chosen = paths[:: max(1, len(paths) // most)][:most]
        if chosen:
            yield name, [(path.name, path.read_bytes()) for path in chosen]
    yield "frames of one object", _encoded(frames(min(most, 60), np.random.default_rng(0)))
    try:
        from elpv_dataset.utils import load_dataset
    except ImportError:
        pass
    else:
        # In their order: neighbours come from one module and resemble each other most.
        yield "solar cells", _encoded(list(load_dataset()[0][1200 : 1200 + most]))
    if fashion:
        pixels = np.frombuffer(gzip.decompress(fashion.read_bytes())[16:], dtype=np.uint8)
        yield "clothes, 28 pixels", _encoded(list(pixels.reshape(-1, 28, 28)[: 5 * most]))


_FOLDERS = {
    "screws, aligned": "screws_small/**/*.png",
    "steel strips, scratches": "neu/scratches/*",
    "steel strips, crazing": "neu/crazing/*",
    "steel strips, pitted": "neu/pitted_surface/*",
    "chest X-rays": "covid/**/*.png",
    "blood cells": "blood_cells/*/*",
    "faces": "gender/Training/*/*",
}


def _encoded(pictures: list[Grey]) -> list[tuple[str, bytes]]:
    return [(f"{number:05d}.png", _png(Image.fromarray(each))) for number, each in enumerate(pictures)]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def measure(files: list[tuple[str, bytes]], planted: int) -> Counts:
    """Plant ``planted`` copies of each kind into a set and count what is called a copy."""
    rng = np.random.default_rng(0)
    counts = Counts()
    names, contents = [name for name, _ in files], [content for _, content in files]
    source = list(range(len(files)))
    kind_of = [""] * len(files)
    for number, (kind, change) in enumerate(KINDS.items()):
        # Other originals for each kind, so that a picture has one or two copies, as in life.
        for place in range(planted):
            original = (number * planted + place) * 7919 % len(files)
            image = Image.open(io.BytesIO(files[original][1])).convert("L")
            copy = change(image, rng)
            names.append(f"{files[original][0]} {kind}")
            contents.append(copy if isinstance(copy, bytes) else _png(copy))
            source.append(original)
            kind_of.append(kind)
    table = FactTable.of([look_at_bytes(content) for content in contents])
    positions = np.flatnonzero(table.first_of_content == np.arange(len(table)))
    candidates = candidates_of(table, positions)
    pictures = Pictures(lambda position: contents[position])
    verdicts = judge(candidates.pairs, candidates.is_mirrored, candidates.others, pictures)
    counts.limit = verdicts.limit
    copies = {tuple(pair) for pair in candidates.pairs[verdicts.is_copy].tolist()}
    pairs = {tuple(pair) for pair in candidates.pairs.tolist()}
    nearest = _nearest(table, len(files)) - pairs
    more = np.array(sorted(nearest), dtype=np.int64).reshape(-1, 2)
    others = judge(more, np.zeros(len(more), dtype=np.bool_), candidates.others, pictures)
    copies |= {tuple(pair) for pair in more[others.is_copy].tolist()}
    for left, right in pairs | nearest:
        known = frozenset({names[source[left]], names[source[right]]})
        if source[left] == source[right] or known in TRUE_COPIES:
            continue
        counts.non_copies += 1
        if (left, right) in copies:
            counts.called.append((names[left], names[right]))
    for place in range(len(files), len(names)):
        found = counts.copies.setdefault(kind_of[place], [0, 0])
        found[0] += (source[place], place) in copies or table.first_of_content[place] != place
        found[1] += 1
    return counts


def _nearest(table: FactTable, count: int) -> set[tuple[int, int]]:
    """The nearest pictures of each original, by thumbnails."""
    rows = table.thumbnails(range(count)).reshape(count, -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6
    alike = rows @ rows.T
    np.fill_diagonal(alike, -1)
    order = np.argsort(-alike, axis=1)[:, :_NEIGHBOURS]
    return {(min(one, other), max(one, other)) for one in range(count) for other in order[one].tolist()}


def _share(found: int, of: int) -> str:
    low, high = clopper_pearson(found, of)
    return f"{found} of {of}: {found / of:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Measure every set that is at hand; print a table and, last, the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, help="folder of screws_small, neu, covid, blood_cells and gender"
    )
    parser.add_argument("--fashion", type=Path, help="t10k-images-idx3-ubyte.gz of Fashion-MNIST")
    parser.add_argument("--only", default="", help="word in the names of the sets to measure (default: all)")
    parser.add_argument("--most", type=int, default=200, help="pictures of each set (default: 200)")
    parser.add_argument("--planted", type=int, default=12, help="copies of each kind and set (default: 12)")
    arguments = parser.parse_args()
    total = Counts()
    print("| set | close pairs, no copies | called copies | copies by JPEG >= 75 and resize found | limit |")
    print("|---|---|---|---|---|", flush=True)
    tiny: dict[str, list[int]] = {}
    for name, files in sets_of(arguments.data, arguments.fashion, arguments.most):
        if arguments.only not in name:
            continue
        counts = measure(files, arguments.planted)
        is_tiny = min(Image.open(io.BytesIO(files[0][1])).size) < _TINY
        for kind, (found, of) in counts.copies.items():
            both = (tiny if is_tiny else total.copies).setdefault(kind, [0, 0])
            both[0], both[1] = both[0] + found, both[1] + of
        promised = [counts.copies[kind] for kind in _PROMISED]
        found, of = (sum(each[place] for each in promised) for place in (0, 1))
        print(
            f"| {name} | {counts.non_copies} | {len(counts.called)} | {found} of {of} | {counts.limit:.4f} |",
            flush=True,
        )
        total.non_copies += counts.non_copies
        total.called += [(f"{name}: {left}", right) for left, right in counts.called]
    for title, copies in (("copies", total.copies), (f"copies of pictures below {_TINY} pixels", tiny)):
        if copies:
            print(f"\n| {title} | found |\n|---|---|")
        for kind, (found, of) in copies.items():
            print(f"| {kind} | {_share(found, of)} |")
    right = total.non_copies - len(total.called)
    print(f"\nspecificity among close pairs: {_share(right, total.non_copies)}")
    print(json.dumps({"called": total.called}))


if __name__ == "__main__":
    main()
