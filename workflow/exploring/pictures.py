"""Contact sheets, sizes and grey values of a data set, and the album that all its pictures go into."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from contracts.errors import ImageError
from contracts.files import atomic_writer
from contracts.rows import ImageArray
from imagedata.decoding.decode import DecodeSettings, decode_at_stored_size, decode_file, read_image_bytes
from imagedata.decoding.masks import read_mask
from imagedata.manifest import Manifest
from imagedata.manifest_row import ManifestRow
from imagedata.sampling import seeded_rank
from reporting import explore_figures
from reporting.contact_sheets import contact_sheet, thumbnail
from reporting.drawing import Drawing
from reporting.explore_page import Sheet, jpeg_of
from reporting.pictures import outlined, svg_uri
from reporting.slides import png_bytes
from reporting.terminal import progress_bar
from workflow.settings.config import RunConfig

_SHEET = 24
_MOST_SHEETS = 20
_MEASURED = 2000
_MEASURED_SIDE = 64
_COMMONEST_SIZES = 3


@dataclass
class Album:
    """Where pictures go, and what could not be read on the way.

    Attributes:
        folder: of page and pictures.
        window: grey values of deep images.
        files: pictures written so far.
        skipped: path → why it is not shown, although it was whole when it was looked at.
    """

    folder: Path
    window: tuple[float, float] | None
    files: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def save(self, name: str, picture: Image.Image) -> None:
        """Write a picture as PNG."""
        with atomic_writer(self.folder / name) as handle:
            handle.write(png_bytes(picture))
        self.files.append(name)

    def thumbnail(self, manifest: Manifest, row: ManifestRow) -> ImageArray | None:
        """A small picture of a row in its own proportions; None where its file broke since.

        Where a mask says where the anomaly is, it is outlined.
        """
        try:
            content = read_image_bytes(manifest.root / row.path)
            small = thumbnail(np.asarray(decode_at_stored_size(content, self.window)))
        except ImageError as error:
            self.skipped[row.path] = str(error)
            return None
        try:
            mask = None if row.mask is None else read_mask(manifest.root / row.mask)
        except ImageError:
            mask = None  # nothing to outline; localise names such masks with their reasons
        return small if mask is None else outlined(small, mask)


def class_sheets(config: RunConfig, manifest: Manifest, album: Album) -> list[Sheet]:
    """One sheet per class, the minority first; also written as PNG."""
    rows = [*manifest.usable("train"), *manifest.usable("test")]
    minority = manifest.class_names[-1]
    names = [minority, *manifest.class_names[:-1]][:_MOST_SHEETS]
    sheets = []
    for number, name in enumerate(names):
        mine = [row for row in rows if row.label == name]
        # A seeded draw, not the first files, which may all be of one patient.
        mine.sort(key=lambda row: (seeded_rank(config.seed, "sheet", row.sha256), row.path))
        shown = [(row, album.thumbnail(manifest, row)) for row in mine[:_SHEET]]
        whole = [(row.path, small) for row, small in shown if small is not None]
        if whole:
            picture = contact_sheet([small for _, small in whole])
            album.save(f"sheet-{number + 1:02d}-{slug(name)}.png", picture)
            paths = [path for path, _ in whole]
            sheets.append(Sheet(name, name == minority, len(mine), paths, jpeg_of(picture)))
    return sheets


def size_and_grey_figures(config: RunConfig, manifest: Manifest, album: Album) -> tuple[list[Drawing], str]:
    """Figures of sizes and grey values, and a sentence on sizes."""
    rows = [*manifest.usable("train"), *manifest.usable("test")]
    widths, heights = (np.array([getattr(row, name) for row in rows]) for name in ("width", "height"))
    is_minority = np.array([row.label == manifest.class_names[-1] for row in rows])
    common = Counter((row.width, row.height) for row in rows).most_common()
    listed = ", ".join(
        f"{w}×{h} ({n:,} image{'s' if n > 1 else ''})" for (w, h), n in common[:_COMMONEST_SIZES]
    )
    modes = ", ".join(f"{mode} ({n:,})" for mode, n in Counter(row.mode for row in rows).most_common(4))
    more = len(common) - _COMMONEST_SIZES
    sentence = (
        f"Stored sizes in pixels: {listed}{f', and {more} others' if more > 0 else ''}. Modes: {modes}."
    )
    figures = []
    if len(common) > 1:
        figures.append(
            Drawing(
                "Stored sizes",
                svg_uri(explore_figures.sizes(widths, heights, is_minority)),
                f"Heights over widths of {len(rows)} images. {listed}.",
                "A larger mark stands for more images. Where classes differ, a model may learn sizes.",
            )
        )
    in_order = sorted(
        zip(rows, is_minority, strict=True), key=lambda each: seeded_rank(config.seed, "grey", each[0].sha256)
    )
    means, deviations, sides = [], [], []
    settings = DecodeSettings(_MEASURED_SIDE, config.spec.window, config.spec.scaled_jpeg)
    # Half of the budget for each side, as far as there are so many.
    chosen = [each for each in in_order if each[1]][: _MEASURED // 2]
    chosen += [each for each in in_order if not each[1]][: _MEASURED - len(chosen)]
    with progress_bar(f"measuring {len(chosen)} images", len(chosen)) as bar:
        for row, minority in chosen:
            try:
                grey = decode_file(manifest.root / row.path, settings).pixels.mean(axis=2)
            except ImageError as error:
                album.skipped[row.path] = str(error)
            else:
                means.append(float(grey.mean()))
                deviations.append(float(grey.std()))
                sides.append(bool(minority))
            bar.advance()
    if means:
        drawn = f"{len(means):,} images drawn by a seed, reduced to {_MEASURED_SIDE} pixels per side."
        for title, values, axis in (
            ("Brightness", means, "mean grey value (0 black, 255 white)"),
            ("Contrast", deviations, "standard deviation of the grey values"),
        ):
            svg = explore_figures.histogram(np.array(values), np.array(sides), axis)
            figures.append(Drawing(title, svg_uri(svg), f"Histogram: {axis}, of both sides, {drawn}", drawn))
    return figures, sentence


def slug(name: str) -> str:
    """A name that is safe in any file system."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "unnamed"
