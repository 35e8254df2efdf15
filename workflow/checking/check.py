"""``check``: what is wrong with a data set, before a minute is spent on training. It changes no input."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from contracts.errors import DataError, ImageError
from imagedata.audit.fact_table import FactTable
from imagedata.audit.facts import FileFacts
from imagedata.audit.pool import look_at_files
from imagedata.audit.result import Audit
from imagedata.audit.verdicts import problems_of, problems_of_leak
from imagedata.decoding.region import Region
from imagedata.layouts.listed_image import ListedImage
from imagedata.materialise import corrections_of
from imagedata.near_duplicates import write_near_duplicates
from reporting.terminal import note, progress_bar
from workflow.checking.examine import as_trained, examine
from workflow.checking.results import document_of, print_results, write_page
from workflow.checking.saved_spec import check_target, save_spec
from workflow.run.label_curve import kept_curve
from workflow.run.moved import folders_of
from workflow.run.prepared import manifest_of
from workflow.run.reading import print_reading, reading_of
from workflow.run.summary import images_of_other_endings, other_endings_sentence
from workflow.settings.config import RunConfig, RunOptions, resolve_config


def check(
    options: RunOptions,
    output: Path | None = None,
    confirm_groups: bool | None = None,
    show_leak: bool = False,
    save: Path | None = None,
) -> dict[str, Any]:
    """Look at every file once, judge, and say it as a table, a page and a document.

    Args:
        options: data set and overrides; the recipe tells the number of folds.
        output: the page; ``<runs>/checks/<data set>.html`` by default.
        confirm_groups: True takes the first guess of patients or lots as their rule, False says that
            there are none, None leaves it open.
        show_leak: train heads with random and with grouped folds.
        save: YAML file for the spec with the confirmed groups and the near copies, for later commands.

    Returns:
        The document of ``--json``; ``valid`` is False where results would claim more than is true.

    Raises:
        UsageError, DataError: the data set cannot even be listed.
    """
    started = time.monotonic()
    config = resolve_config(options)
    if save is not None:
        check_target(save, config)
    folder = options.runs / "checks"
    root, images = _listed(config)
    images = as_trained(config.spec, images)
    folder.mkdir(parents=True, exist_ok=True)
    with FactTable(len(images), folder) as facts:
        _look_at(config, root, images, facts)
        place = {image.path: number for number, image in enumerate(images)}
        corrections = corrections_of(config.spec, folders_of(config))
        images = corrections.applied(images, lambda image: facts.sha256(place[image.path]))
        audit = examine(config, root, images, facts, confirm_groups)
        # Groups that were confirmed hold for all that follows, too.
        config = replace(config, spec=audit.spec)
        if audit.duplicates.near:
            write_near_duplicates(audit.near_file, config.spec.name, audit.duplicates.near)
        leak = _leak(config, audit) if show_leak else None
        problems = [*problems_of(audit), *problems_of_leak(leak)]
        page = output or folder / f"{config.spec.name}.html"
        document = document_of(audit, problems, leak, page, time.monotonic() - started)
        if save is not None:
            save_spec(config, audit.near_file if audit.duplicates.near else None, save)
            document["saved"] = str(save)
        others = document["images_of_other_endings"] = images_of_other_endings(config)
        if others:
            note(other_endings_sentence(others))
        document |= reading_of(config)
        curve = document["learning_curve"] = kept_curve(config)
        write_page(audit, problems, document)
        if config.region is not None:
            note(f"{config.region.sentence} Copies and shortcuts are looked for in whole pictures.")
        print_reading(document)
        print_results(config.options, audit, problems, document)
        if curve is not None:
            note(curve["sentence"])
        return document


def _listed(config: RunConfig) -> tuple[Path, list[ListedImage]]:
    """The files; those of packs and shards, and masked ones, are written below ``--runs`` as for training."""
    layout = config.spec.layout
    if layout.writes_images:
        manifest = manifest_of(config)
        rows = [row for row in manifest.rows if row.status == "ok" and row.split in {"train", "test"}]
        own_groups = layout.groups_column is not None
        return manifest.root, [
            ListedImage(
                row.path,
                row.label,
                "test" if row.split == "test" else "train",
                group=row.group if own_groups else None,
            )
            for row in rows
        ]
    root = Path(os.path.abspath(config.spec.find(config.data_dir)))  # noqa: PTH100  # links stay
    return root, config.spec.list_images(root)


def _look_at(config: RunConfig, root: Path, images: list[ListedImage], facts: FactTable) -> None:
    """Put ``[N]`` facts into the table; a file listed under two labels is looked at once."""
    first_of: dict[str, int] = {}
    again: list[tuple[int, int]] = []
    for place, image in enumerate(images):
        first = first_of.setdefault(image.path, place)
        if first != place:
            again.append((place, first))
    paths, places = list(first_of), np.fromiter(first_of.values(), dtype=np.int64)
    del first_of
    with progress_bar(f"looking at {len(paths)} files", len(paths)) as bar:
        for number, seen in look_at_files(paths, config.spec.window, root=root):
            facts.put(int(places[number]), _within(config.region, seen))
            bar.advance()
    for place, first in again:
        facts.put(place, facts[first])


def _within(region: Region | None, seen: FileFacts) -> FileFacts:
    """What was found of a file, refused where it has not the shape of the region of interest."""
    if region is None or not seen.is_usable:
        return seen
    # From 5 on, EXIF orientations exchange width and height.
    size = (seen.height, seen.width) if seen.orientation in range(5, 9) else (seen.width, seen.height)
    try:
        region.bounds(size)
    except ImageError as error:
        return FileFacts(seen.sha256, seen.n_bytes, error.rule, str(error), file_format=seen.file_format)
    return seen


def _leak(config: RunConfig, audit: Audit) -> dict[str, Any]:
    from workflow.checking.leakage import measure_leak

    rule = audit.spec.group or (audit.guesses[0].rule if audit.guesses else None)
    if rule is None:
        return {"refused": "No group rule and no guess of one, so there is nothing that folds could part."}
    try:
        return measure_leak(config, rule)
    except DataError as error:
        return {"refused": str(error)}
