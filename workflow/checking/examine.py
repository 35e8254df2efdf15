"""From the facts of all files to an audit: copies, groups, shortcuts, and what training would use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from contracts.errors import DataError
from imagedata.audit.duplicates import find_duplicates
from imagedata.audit.exposures import Pictures
from imagedata.audit.fact_table import FactTable
from imagedata.audit.groups import guess_groups
from imagedata.audit.result import Audit
from imagedata.audit.rules import file_findings
from imagedata.audit.shortcuts import find_shortcuts
from imagedata.decoding.decode import read_image_bytes
from imagedata.groups import group_of_path
from imagedata.inspection import Inspection
from imagedata.layouts.listed_image import ListedImage
from imagedata.manifest import Manifest, build_manifest
from imagedata.near_duplicates import read_near_duplicates
from imagedata.spec import DataSpec
from workflow.run.sample_size import facts_of_rows, imbalance_facts
from workflow.settings.config import RunConfig


def as_trained(spec: DataSpec, images: list[ListedImage]) -> list[ListedImage]:
    """The listed images with the labels that training gives them: without labels, all are of the majority."""
    if not spec.unlabelled:
        return images
    return [replace(image, label=spec.class_names[0], subtype=None, mask=None) for image in images]


def examine(
    config: RunConfig, root: Path, images: list[ListedImage], facts: FactTable, confirm_groups: bool | None
) -> Audit:
    """Look for everything that the facts of the files can tell.

    Args:
        config: the data set and the recipe, whose folds are looked at.
        root: folder that paths are relative to.
        images: ``[N]`` listed files.
        facts: ``[N]``.
        confirm_groups: True takes the first guess of patients or lots as the rule, False states that there
            are no groups, None leaves the question open.

    Raises:
        DataError: groups are confirmed, but none were guessed.
    """
    guesses = [] if config.spec.group or confirm_groups is False else guess_groups(images)
    if confirm_groups and not config.spec.group:
        if not guesses:
            raise DataError(
                f"{config.spec.name}: --confirm-groups, but neither folders nor names tell any. Give a rule "
                "with -o group=REGEX, whose one (group) finds the patient or lot in every path."
            )
        config = replace(config, spec=config.spec.model_copy(update={"group": guesses[0].rule}))
    rule = config.spec.group
    named = [_group(rule, image) for image in images] if rule or any(i.group for i in images) else None
    groups = (
        None if named is None else [name or image.path for name, image in zip(named, images, strict=True)]
    )
    duplicates = find_duplicates(images, facts, _pictures(config, root, images), groups)
    manifest, refused = _manifest(config, root, images, facts)
    imbalance = _imbalance(config, images, facts, manifest)
    training = None if manifest is None else manifest.status_counts()
    manifest = None  # which is as large as the list of files
    minority = config.spec.minority
    guessed = guesses[0].rule if guesses else None
    independent = groups or [
        (_group(guessed, image) if guessed else None) or images[first].path
        for image, first in zip(images, facts.first_of_content.tolist(), strict=True)
    ]
    shortcuts, not_measured = find_shortcuts(images, facts, independent, minority, config.seed)
    return Audit(
        spec=config.spec,
        root=root,
        images=images,
        facts=facts,
        findings=file_findings([image.path for image in images], facts),
        duplicates=duplicates,
        guesses=guesses,
        groups_denied=confirm_groups is False,
        shortcuts=shortcuts,
        not_measured=not_measured,
        training=training,
        refused=refused,
        imbalance=imbalance,
        near_file=config.options.runs / "checks" / f"{config.spec.name}-near-duplicates.json",
    )


def _pictures(config: RunConfig, root: Path, images: list[ListedImage]) -> Pictures:
    """The pictures of the listed files, for the pixels of candidates."""
    return Pictures(lambda position: read_image_bytes(root / images[position].path), config.spec.window)


def _group(rule: str | int | None, image: ListedImage) -> str:
    """What the set itself names the group of an image, or its rule finds; empty where neither does."""
    return image.group or (group_of_path(rule, image.path) if rule else "")


def _manifest(
    config: RunConfig, root: Path, images: list[ListedImage], facts: FactTable
) -> tuple[Manifest | None, str]:
    """What training would make of the files, by its own rules."""
    near = read_near_duplicates(config.spec.near_duplicates)
    findings = _Findings(images, facts)
    spec = config.spec
    try:
        return build_manifest(spec, root, images, findings, config.seed, near), ""
    except DataError as error:
        return None, str(error)


class _Findings(Mapping[str, Inspection]):
    """What was found of each file, as a manifest wants it; made when asked for."""

    def __init__(self, images: list[ListedImage], facts: FactTable) -> None:
        self._place = {image.path: place for place, image in enumerate(images)}
        self._facts = facts

    def __getitem__(self, path: str) -> Inspection:
        place, facts = self._place[path], self._facts
        width, height = (int(facts.column(side)[place]) for side in ("width", "height"))
        mode = facts.names("mode", [place])[0]
        return Inspection(facts.sha256(place), width, height, mode, facts.problem(place))

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)


def _imbalance(
    config: RunConfig, images: list[ListedImage], facts: FactTable, manifest: Manifest | None
) -> dict[str, Any]:
    """Counts of the manifest, or of the readable files where training refuses the set."""
    spec, folds = config.spec, config.recipe.folds
    if manifest is not None:
        return facts_of_rows(manifest, folds)
    independent: dict[str, set[str]] = {name: set() for name in spec.class_names}
    usable = np.flatnonzero(facts.is_usable).tolist()
    counted = Counter((images[place].split, images[place].label) for place in usable)
    train, test = ({name: counted[split, name] for name in independent} for split in ("train", "test"))
    for place in usable:
        image = images[place]
        if image.split == "train":
            independent[image.label].add(_group(spec.group, image) or facts.sha256(place))
    groups = {name: len(found) for name, found in independent.items()}
    return imbalance_facts(train, test, groups, spec.minority, folds, spec.unlabelled)
