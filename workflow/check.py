"""``check``: what is wrong with a data set, before a minute is spent on training. It changes no input."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from contracts.errors import DataError
from contracts.files import write_text
from contracts.text import printable
from imagedata.audit.duplicates import Duplicates, find_duplicates
from imagedata.audit.facts import FileFacts
from imagedata.audit.groups import GroupGuess, guess_groups
from imagedata.audit.pool import look_at_files
from imagedata.audit.rules import FileFinding, file_findings
from imagedata.audit.shortcuts import Shortcut, find_shortcuts
from imagedata.groups import group_of_path, groups_column
from imagedata.inspection import Inspection
from imagedata.listing import ListedImage, find_root, list_images
from imagedata.manifest import Manifest, build_manifest
from imagedata.near_duplicates import read_near_duplicates, write_near_duplicates
from imagedata.spec import ClassFolders, Packed, Shards
from workflow.check_problems import Problem, problems_of, problems_of_leak
from workflow.config import RunConfig, RunOptions, resolve_config
from workflow.console import console, note, progress_bar
from workflow.imbalance import imbalance_facts
from workflow.prepare import manifest_of


@dataclass(frozen=True)
class Audit:
    """Everything that was found.

    Attributes:
        config: the data set, with the group rule that is enforced or was confirmed.
        root: folder that paths are relative to.
        images: ``[N]`` listed files.
        facts: ``[N]``.
        findings: of single files.
        duplicates: of all files.
        guesses: of patients and lots; empty where the spec has a rule.
        shortcuts: facts that differ, with what they tell.
        not_measured: why there are no shortcuts' figures.
        manifest: what training would make of the files; None where it refuses.
        refused: why it refuses.
        imbalance: counts and what they support.
    """

    config: RunConfig
    root: Path
    images: list[ListedImage]
    facts: list[FileFacts]
    findings: list[FileFinding]
    duplicates: Duplicates
    guesses: list[GroupGuess]
    shortcuts: list[Shortcut]
    not_measured: str
    manifest: Manifest | None
    refused: str
    imbalance: dict[str, Any]

    @property
    def paths(self) -> list[str]:
        """``[N]`` relative paths."""
        return [image.path for image in self.images]


def check(
    options: RunOptions,
    output: Path | None = None,
    confirm_groups: bool | None = None,
    show_leak: bool = False,
) -> dict[str, Any]:
    """Look at every file once, judge, and say it as a table, a page and a document.

    Args:
        options: data set and overrides; the recipe tells the number of folds.
        output: the page; ``<runs>/checks/<data set>.html`` by default.
        confirm_groups: True takes the first guess of patients or lots as their rule, False says that
            there are none, None leaves it open.
        show_leak: train heads with random and with grouped folds.

    Returns:
        The document of ``--json``; ``honest`` is False where results would claim more than is true.

    Raises:
        UsageError, DataError: the data set cannot even be listed.
    """
    started = time.monotonic()
    audit = _audit(resolve_config(options), confirm_groups)
    folder = options.runs / "checks"
    page = output or folder / f"{audit.config.spec.name}.html"
    near = folder / f"{audit.config.spec.name}-near-duplicates.json"
    if audit.duplicates.near:
        write_near_duplicates(near, audit.config.spec.name, audit.duplicates.near)
    problems = problems_of(audit, near, denied=confirm_groups is False)
    leak = _leak(audit) if show_leak else None
    problems += problems_of_leak(leak)
    seconds = time.monotonic() - started
    document = _document(audit, problems, leak, page, near, seconds)
    _write_page(audit, problems, document, page)
    _print(audit, problems, document)
    return document


def _audit(config: RunConfig, confirm_groups: bool | None) -> Audit:
    root, images = _listed(config)
    facts = _looked_at(config, root, images)
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
    duplicates = find_duplicates(images, facts, groups)
    manifest, refused = _manifest(config, root, images, facts)
    minority = config.spec.minority
    guessed = guesses[0].rule if guesses else None
    independent = groups or [
        (_group(guessed, image) if guessed else None) or each.sha256 or image.path
        for image, each in zip(images, facts, strict=True)
    ]
    shortcuts, not_measured = find_shortcuts(images, facts, independent, minority, config.seed)
    return Audit(
        config=config,
        root=root,
        images=images,
        facts=facts,
        findings=file_findings([image.path for image in images], facts),
        duplicates=duplicates,
        guesses=guesses,
        shortcuts=shortcuts,
        not_measured=not_measured,
        manifest=manifest,
        refused=refused,
        imbalance=_imbalance(config, images, facts, manifest),
    )


def _group(rule: str | int | None, image: ListedImage) -> str:
    """What the set itself names the group of an image, or its rule finds; empty where neither does."""
    return image.group or (group_of_path(rule, image.path) if rule else "")


def _listed(config: RunConfig) -> tuple[Path, list[ListedImage]]:
    """The files; those of packs and shards, and masked ones, are written below ``--runs`` as for training."""
    layout = config.spec.layout
    masked = isinstance(layout, ClassFolders) and layout.region_masks is not None
    if isinstance(layout, Packed | Shards) or masked:
        manifest = manifest_of(config)
        rows = [row for row in manifest.rows if row.status == "ok" and row.split in {"train", "test"}]
        own_groups = groups_column(layout) is not None
        return manifest.root, [
            ListedImage(
                row.path,
                row.label,
                "test" if row.split == "test" else "train",
                group=row.group if own_groups else None,
            )
            for row in rows
        ]
    root = Path(os.path.abspath(find_root(config.spec, config.data_dir)))  # noqa: PTH100  # links stay
    return root, list_images(config.spec, root)


def _looked_at(config: RunConfig, root: Path, images: list[ListedImage]) -> list[FileFacts]:
    """``[N]`` facts; a file listed under two labels is looked at once."""
    places = {path: place for place, path in enumerate(dict.fromkeys(image.path for image in images))}
    found: list[FileFacts | None] = [None] * len(places)
    with progress_bar(f"looking at {len(places)} files", len(places)) as bar:
        for place, seen in look_at_files([root / path for path in places], config.spec.window):
            found[place] = seen
            bar.advance()
    return [facts for image in images if (facts := found[places[image.path]]) is not None]


def _manifest(
    config: RunConfig, root: Path, images: list[ListedImage], facts: list[FileFacts]
) -> tuple[Manifest | None, str]:
    """What training would make of the files, by its own rules."""
    near = read_near_duplicates(config.spec.near_duplicates)
    findings = {
        image.path: Inspection(each.sha256, each.width, each.height, each.mode, each.problem)
        for image, each in zip(images, facts, strict=True)
    }
    spec = config.spec
    try:
        return build_manifest(spec, root, images, findings, config.seed, near), ""
    except DataError as error:
        return None, str(error)


def _imbalance(
    config: RunConfig, images: list[ListedImage], facts: list[FileFacts], manifest: Manifest | None
) -> dict[str, Any]:
    """Counts of the manifest, or of the readable files where training refuses the set."""
    names = config.spec.class_names
    independent: dict[str, set[str]] = {name: set() for name in names}
    if manifest is not None:
        train, test = manifest.counts("train"), manifest.counts("test")
        for row in manifest.usable("train"):
            independent[row.label].add(row.group)
    else:
        counted = Counter(
            (image.split, image.label) for image, each in zip(images, facts, strict=True) if each.is_usable
        )
        train, test = ({name: counted[split, name] for name in names} for split in ("train", "test"))
        for image, each in zip(images, facts, strict=True):
            if image.split == "train" and each.is_usable:
                independent[image.label].add(_group(config.spec.group, image) or each.sha256)
    groups = {name: len(found) for name, found in independent.items()}
    return imbalance_facts(train, test, groups, config.spec.minority, config.recipe.folds)


def _leak(audit: Audit) -> dict[str, Any]:
    from workflow.show_leak import measure_leak

    rule = audit.config.spec.group or (audit.guesses[0].rule if audit.guesses else None)
    if rule is None:
        return {"refused": "No group rule and no guess of one, so there is nothing that folds could part."}
    try:
        return measure_leak(audit.config, rule)
    except DataError as error:
        return {"refused": str(error)}


def _document(
    audit: Audit,
    problems: list[Problem],
    leak: dict[str, Any] | None,
    page: Path,
    near: Path,
    seconds: float,
) -> dict[str, Any]:
    config, manifest, images = audit.config, audit.manifest, audit.images
    listed = Counter((image.split, image.label) for image in images)
    return {
        "dataset": config.spec.name,
        "root": str(audit.root),
        "classes": list(config.spec.class_names),
        "minority": config.spec.minority,
        "files": len(images),
        "refused_files": sum(not each.is_usable for each in audit.facts),
        "listed": {
            split: {name: listed[split, name] for name in config.spec.class_names}
            for split in ("train", "test")
        },
        "honest": not any(problem.severity in {"dishonest", "refused"} for problem in problems),
        "problems": [vars(problem) for problem in problems],
        "findings": [vars(finding) for finding in audit.findings],
        "rules": dict(Counter(finding.rule for finding in audit.findings)),
        "duplicates": {
            "counts": audit.duplicates.counts(),
            "near_pairs": len(audit.duplicates.near),
            "is_complete": audit.duplicates.is_complete,
            "is_strict": audit.duplicates.is_strict,
            "sets": [
                {
                    "kind": each.kind,
                    "relations": sorted(each.relations),
                    "files": [images[i].path for i in each.members],
                    "labels": [images[i].label for i in each.members],
                    "splits": [images[i].split for i in each.members],
                }
                for each in audit.duplicates.sets
            ],
            "near_duplicates_file": str(near) if audit.duplicates.near else None,
        },
        "groups": {
            "rule": config.spec.group,
            "guesses": [vars(guess) for guess in audit.guesses],
            "override": f"group={audit.guesses[0].rule}" if audit.guesses else None,
        },
        "shortcuts": [vars(shortcut) for shortcut in audit.shortcuts],
        "shortcuts_not_measured": audit.not_measured,
        "imbalance": audit.imbalance,
        "training": {
            "refused": audit.refused,
            "status": manifest.status_counts() if manifest else {},
        },
        "leak": leak,
        "page": str(page),
        "seconds": round(seconds, 2),
    }


def _write_page(audit: Audit, problems: list[Problem], document: dict[str, Any], page: Path) -> None:
    from reporting.check_page import render_check
    from workflow.check_pictures import sections_of

    write_text(page, render_check(document, [vars(p) for p in problems], sections_of(audit)))


_COLOURS = {"refused": "bold red", "dishonest": "bold red", "warning": "yellow", "note": "", "fine": "green"}


def _print(audit: Audit, problems: list[Problem], document: dict[str, Any]) -> None:
    """The table that a check ends with, and where the page lies."""
    table = Table(title=f"check {escape(printable(audit.config.spec.name))}: {document['files']} files")
    for heading in ("what", "count", "verdict", "in words"):
        table.add_column(heading, justify="right" if heading == "count" else "left", overflow="fold")
    for problem in problems:
        colour = _COLOURS[problem.severity]
        verdict = f"[{colour}]{problem.severity}[/]" if colour else problem.severity
        count = "" if problem.count is None else f"{problem.count:,}"
        table.add_row(escape(printable(problem.title)), count, verdict, escape(printable(problem.sentence)))
    console.print(table)
    if document["honest"]:
        note("Nothing found that would make results dishonest.")
    else:
        worst = [p.title for p in problems if p.severity in {"dishonest", "refused"}]
        note(f"Results would not be honest yet, hence exit 3: {'; '.join(dict.fromkeys(worst))}.")
    if document["duplicates"]["near_duplicates_file"] and not audit.config.spec.near_duplicates:
        note(
            "Heed near copies in training with: "
            f"-o near_duplicates={document['duplicates']['near_duplicates_file']}"
        )
    if audit.guesses:
        command = audit.config.options.command("train-all", "-o", f"group={audit.guesses[0].rule}")
        real = "The confirmed groups" if audit.config.spec.group else "If the guessed groups are real, they"
        note(f"{real} stay together with: {command}")
    note(f"Page with pictures: {document['page']} ({document['seconds']:.1f} s).")
