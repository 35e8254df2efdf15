"""``golden``: labelled images put aside that never train, so that every later file is judged by them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contracts.errors import DataError, ImageError, UsageError
from contracts.files import atomic_writer
from contracts.text import number_of
from imagedata.audit.families import near_copies_among
from imagedata.decoding.decode import decode_bytes, read_image_bytes
from reporting.terminal import note, progress_bar
from workflow.run.put_aside import AsideImage, PutAside
from workflow.run.state import Run
from workflow.settings.config import RunOptions
from workflow.versus.images import KnownImage, images_of


def golden(options: RunOptions, place: Path | None = None, *, remove: bool = False) -> dict[str, Any]:
    """Show a run's golden set, add to it, or give it up.

    Args:
        options: of a trained run.
        place: folder of one folder per class, or a list with a column ``label``; None only shows the set.
        remove: give the whole set up; its images may then train.

    Returns:
        ``{dataset, golden, images, added, skipped}``: the file, images per class, how many were added now and
        which were not, with reasons.

    Raises:
        UsageError: there is no such place, or nothing to remove.
        DataError: an image has no label, or not one can be used.
        ModelError: the run is not trained.
    """
    run = Run.open(options)
    data, config = run.data, run.config
    known = PutAside.read(config.folder, "golden")
    if remove:
        if place is not None or not known.rows:
            raise UsageError(
                "golden --remove: name no images with it."
                if place is not None
                else f"golden --remove: {config.folder} has no golden set. Add images to it first."
            )
        # The list first: without it the copies are nothing but files.
        known.file.unlink()
        shutil.rmtree(known.copies, ignore_errors=True)
        note(f"The golden set of {config.spec.name} is given up: {number_of(len(known.rows), 'image')}.")
        return _document(run, PutAside(config.folder, "golden"), 0, [])
    new: list[AsideImage] = []
    skipped: list[dict[str, str]] = []
    if place is not None:
        images = images_of(place, data.manifest.class_names)
        nameless = next((image.path for image in images if not image.label), None)
        if nameless is not None:
            raise DataError(
                f"{place}: nobody says what {nameless} is. Give one folder per class "
                f"({', '.join(data.manifest.class_names)}), or a list with a column 'label'."
            )
        new, skipped = _taken(run, known, images)
        for each in skipped:
            note(f"{each['path']} is not taken: {each['reason']}.")
        if new:
            known = PutAside(config.folder, "golden", (*known.rows, *new))
            known.write()
        elif all(each["reason"] != _THERE for each in skipped):
            first = skipped[0]
            raise DataError(
                f"none of {number_of(len(images), 'image')} can be golden; the first: {first['path']}: "
                f"{first['reason']}."
            )
    document = _document(run, known, len(new), skipped)
    counts = ", ".join(f"{count} of {name}" for name, count in document["images"].items())
    note(f"Golden set of {config.spec.name}: {counts}; {number_of(len(new), 'image')} added now.")
    return document


_THERE = "it is in the golden set already"


def _taken(
    run: Run, known: PutAside, images: Sequence[KnownImage]
) -> tuple[list[AsideImage], list[dict[str, str]]]:
    """Copy what may be golden into the run folder; the list is written by the caller, afterwards."""
    config, data = run.config, run.data
    trains = {row.sha256: row for row in [*data.manifest.usable("train"), *data.joined, *data.added]}
    files = [data.file_of(row) for row in trains.values()]
    with progress_bar(f"looking for near copies among {len(files)} training images", None):
        copies = near_copies_among([Path(image.path) for image in images], files, config.spec.window)
    there = {row.sha256: row.label for row in known.rows}
    new: list[AsideImage] = []
    skipped: list[dict[str, str]] = []
    for image, copy in zip(images, copies, strict=True):
        file = Path(image.path)
        try:
            content = read_image_bytes(file)
            decode_bytes(content, config.decode)
        except ImageError as error:
            skipped.append({"path": image.path, "reason": str(error).rstrip(".")})
            continue
        sha256 = hashlib.sha256(content).hexdigest()
        reason = ""
        if sha256 in there:
            reason = _THERE if there[sha256] == image.label else f"it is golden as {there[sha256]} already"
        elif sha256 in trains:
            reason = f"the same file trains as {trains[sha256].path}"
        elif copy is not None:
            reason = f"nearly the same picture trains as {list(trains.values())[copy].path}"
        if reason:
            skipped.append({"path": image.path, "reason": reason})
            continue
        there[sha256] = image.label
        name = f"{sha256}{file.suffix.lower()}"
        with atomic_writer(known.copies / name) as handle:
            handle.write(content)
        new.append(AsideImage(sha256, image.label, image.kind, image.group, str(file.absolute()), name))
    return new, skipped


def _document(run: Run, known: PutAside, added: int, skipped: list[dict[str, str]]) -> dict[str, Any]:
    names = run.data.manifest.class_names
    return {
        "dataset": run.config.spec.name,
        "golden": str(known.file),
        "images": {name: sum(row.label == name for row in known.rows) for name in names},
        "added": added,
        "skipped": skipped,
    }
