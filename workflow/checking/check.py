"""``check``: what is wrong with a data set, before a minute is spent on training. It changes no input."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from contracts.errors import DataError
from contracts.files import write_text
from contracts.text import printable
from imagedata.audit.duplicates import Duplicates, find_duplicates
from imagedata.audit.fact_table import FactTable
from imagedata.audit.groups import GroupGuess, guess_groups
from imagedata.audit.pool import look_at_files
from imagedata.audit.rules import FileFinding, file_findings
from imagedata.audit.shortcuts import Shortcut, find_shortcuts
from imagedata.groups import group_of_path, groups_column
from imagedata.inspection import Inspection
from imagedata.layouts.listing import ListedImage, find_root, list_images
from imagedata.manifest import Manifest, build_manifest
from imagedata.near_duplicates import read_near_duplicates, write_near_duplicates
from imagedata.spec import ClassFolders, Packed, Shards
from reporting.terminal import console, note, progress_bar
from workflow.checking.problems import Problem, number_of, problems_of, problems_of_leak
from workflow.checking.sample_size import imbalance_facts
from workflow.checking.saved_spec import check_target, save_spec, with_spec
from workflow.run.prepared import manifest_of
from workflow.settings.config import RunConfig, RunOptions, resolve_config


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
        training: status → images, as training would treat them; None where it refuses.
        refused: why it refuses.
        imbalance: counts and what they support.
    """

    config: RunConfig
    root: Path
    images: list[ListedImage]
    facts: FactTable
    findings: list[FileFinding]
    duplicates: Duplicates
    guesses: list[GroupGuess]
    shortcuts: list[Shortcut]
    not_measured: str
    training: dict[str, int] | None
    refused: str
    imbalance: dict[str, Any]


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
        The document of ``--json``; ``honest`` is False where results would claim more than is true.

    Raises:
        UsageError, DataError: the data set cannot even be listed.
    """
    started = time.monotonic()
    config = resolve_config(options)
    if save is not None:
        check_target(save, config)
    folder = options.runs / "checks"
    root, images = _listed(config)
    folder.mkdir(parents=True, exist_ok=True)
    with FactTable(len(images), folder) as facts:
        _look_at(config, root, images, facts)
        audit = _audit(config, root, images, facts, confirm_groups)
        return _judged(audit, output, confirm_groups, show_leak, save, started)


def _judged(
    audit: Audit,
    output: Path | None,
    confirm_groups: bool | None,
    show_leak: bool,
    save: Path | None,
    started: float,
) -> dict[str, Any]:
    folder = audit.config.options.runs / "checks"
    page = output or folder / f"{audit.config.spec.name}.html"
    near = folder / f"{audit.config.spec.name}-near-duplicates.json"
    if audit.duplicates.near:
        write_near_duplicates(near, audit.config.spec.name, audit.duplicates.near)
    problems = problems_of(audit, near, denied=confirm_groups is False)
    leak = _leak(audit) if show_leak else None
    problems += problems_of_leak(leak)
    seconds = time.monotonic() - started
    document = _document(audit, problems, leak, page, near, seconds)
    if save is not None:
        save_spec(audit.config, near if audit.duplicates.near else None, save)
        document["saved"] = str(save)
    _write_page(audit, problems, document, page)
    _print(audit, problems, document)
    return document


def _audit(
    config: RunConfig, root: Path, images: list[ListedImage], facts: FactTable, confirm_groups: bool | None
) -> Audit:
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
        config=config,
        root=root,
        images=images,
        facts=facts,
        findings=file_findings([image.path for image in images], facts),
        duplicates=duplicates,
        guesses=guesses,
        shortcuts=shortcuts,
        not_measured=not_measured,
        training=training,
        refused=refused,
        imbalance=imbalance,
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
            facts.put(int(places[number]), seen)
            bar.advance()
    for place, first in again:
        facts.put(place, facts[first])


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
    names = config.spec.class_names
    independent: dict[str, set[str]] = {name: set() for name in names}
    if manifest is not None:
        train, test = manifest.counts("train"), manifest.counts("test")
        for row in manifest.usable("train"):
            independent[row.label].add(row.group)
    else:
        usable = np.flatnonzero(facts.is_usable).tolist()
        counted = Counter((images[place].split, images[place].label) for place in usable)
        train, test = ({name: counted[split, name] for name in names} for split in ("train", "test"))
        for place in usable:
            image = images[place]
            if image.split == "train":
                group = _group(config.spec.group, image) or facts.sha256(place)
                independent[image.label].add(group)
    groups = {name: len(found) for name, found in independent.items()}
    return imbalance_facts(train, test, groups, config.spec.minority, config.recipe.folds)


def _leak(audit: Audit) -> dict[str, Any]:
    from workflow.checking.leakage import measure_leak

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
    config, images = audit.config, audit.images
    listed = Counter((image.split, image.label) for image in images)
    return {
        "dataset": config.spec.name,
        "root": str(audit.root),
        "classes": list(config.spec.class_names),
        "minority": config.spec.minority,
        "files": len(images),
        "refused_files": int((~audit.facts.is_usable).sum()),
        "listed": {
            split: {name: listed[split, name] for name in config.spec.class_names}
            for split in ("train", "test")
        },
        "valid": not any(problem.severity in {"invalid", "refused"} for problem in problems),
        "problems": [vars(problem) for problem in problems],
        "findings": [asdict(finding) for finding in audit.findings],
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
            "status": audit.training or {},
        },
        "leak": leak,
        "page": str(page),
        "saved": None,
        "seconds": round(seconds, 2),
    }


def _write_page(audit: Audit, problems: list[Problem], document: dict[str, Any], page: Path) -> None:
    from reporting.check_page import render_check
    from workflow.checking.pictures import sections_of

    write_text(page, render_check(document, [vars(p) for p in problems], sections_of(audit)))


_COLOURS = {"refused": "bold red", "invalid": "bold red", "warning": "yellow", "note": "", "fine": "green"}


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
    if document["valid"]:
        note("Nothing found that would make results invalid.")
    else:
        worst = [p.title for p in problems if p.severity in {"invalid", "refused"}]
        note(f"Results would not be honest yet, hence exit 3: {'; '.join(dict.fromkeys(worst))}.")
    if document["saved"]:
        groups = f"groups by {audit.config.spec.group}" if audit.config.spec.group else "no group rule"
        near = number_of(document["duplicates"]["near_pairs"], "pair")
        command = with_spec(audit.config.options, document["saved"]).command("train-all")
        note(f"Saved to {document['saved']}, with {groups} and {near} of near copies. Next: {command}")
    elif document["duplicates"]["near_duplicates_file"] and not audit.config.spec.near_duplicates:
        note(
            "Heed near copies in training with: "
            f"-o near_duplicates={document['duplicates']['near_duplicates_file']}"
        )
    if audit.guesses and not document["saved"]:
        command = audit.config.options.command("train-all", "-o", f"group={audit.guesses[0].rule}")
        real = "The confirmed groups" if audit.config.spec.group else "If the guessed groups are real, they"
        note(f"{real} stay together with: {command}")
        note("To keep that for all later commands, check again with --confirm-groups --save FILE.yaml.")
    note(f"Page with pictures: {document['page']} ({document['seconds']:.1f} s).")
