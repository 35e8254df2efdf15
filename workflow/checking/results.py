"""What a check says: its JSON document, its page and its table."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from contracts.files import write_text
from contracts.text import number_of, printable
from imagedata.audit.result import Audit
from imagedata.audit.verdicts import OUTCOMES, Problem, outcome_of, worst_first
from reporting.terminal import console, note
from workflow.checking.saved_spec import with_spec
from workflow.settings.config import RunOptions


def document_of(
    audit: Audit, problems: list[Problem], leak: dict[str, Any] | None, page: Path, seconds: float
) -> dict[str, Any]:
    """The document of ``check --json``."""
    spec, images = audit.spec, audit.images
    listed = Counter((image.split, image.label) for image in images)
    return {
        "dataset": spec.name,
        "root": str(audit.root),
        "classes": list(spec.class_names),
        "minority": spec.minority,
        "files": len(images),
        "refused_files": int((~audit.facts.is_usable).sum()),
        "listed": {
            split: {name: listed[split, name] for name in spec.class_names} for split in ("train", "test")
        },
        "outcome": outcome_of(problems),
        "valid": outcome_of(problems) != "invalid",
        "problems": [vars(problem) for problem in problems],
        "findings": [asdict(finding) for finding in audit.findings],
        "rules": dict(Counter(finding.rule for finding in audit.findings)),
        "duplicates": {
            "counts": audit.duplicates.counts(),
            "near_pairs": len(audit.duplicates.near),
            "is_complete": audit.duplicates.is_complete,
            "compared_pairs": audit.duplicates.compared,
            "limit": audit.duplicates.limit,
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
            "near_duplicates_file": str(audit.near_file) if audit.duplicates.near else None,
        },
        "groups": {
            "rule": spec.group,
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


def write_page(audit: Audit, problems: list[Problem], document: dict[str, Any]) -> None:
    """Write the HTML page to the place that the document names."""
    from reporting.check_page import render_check
    from workflow.checking.pictures import sections_of

    by_outcome = {
        outcome: [vars(problem) for problem in problems if problem.outcome == outcome] for outcome in OUTCOMES
    }
    write_text(Path(document["page"]), render_check(document, by_outcome, sections_of(audit)))


_COLOURS = {"refused": "bold red", "invalid": "bold red", "warning": "yellow", "note": "", "fine": "green"}


def print_results(
    options: RunOptions, audit: Audit, problems: list[Problem], document: dict[str, Any]
) -> None:
    """The table that a check ends with, and where the page lies."""
    table = Table(title=f"check {escape(printable(audit.spec.name))}: {document['files']} files")
    for heading in ("what", "count", "verdict", "in words"):
        table.add_column(heading, justify="right" if heading == "count" else "left", overflow="fold")
    for problem in worst_first(problems):
        colour = _COLOURS[problem.severity]
        verdict = f"[{colour}]{problem.severity}[/]" if colour else problem.severity
        count = "" if problem.count is None else f"{problem.count:,}"
        table.add_row(escape(printable(problem.title)), count, verdict, escape(printable(problem.sentence)))
    console.print(table)
    counts = Counter(problem.outcome for problem in problems)
    if counts["invalid"]:
        worst = dict.fromkeys(problem.title for problem in problems if problem.outcome == "invalid")
        note(f"Invalid, hence exit 3: {'; '.join(worst)}.")
    elif counts["look at this"]:
        points = number_of(counts["look at this"], "point")
        note(f"Nothing proven that would make results invalid. Look at {points}.")
    else:
        note("Nothing found that would make results invalid.")
    if document["saved"]:
        groups = f"groups by {audit.spec.group}" if audit.spec.group else "no group rule"
        near = number_of(document["duplicates"]["near_pairs"], "pair")
        command = with_spec(options, document["saved"]).command("train-all")
        note(f"Saved to {document['saved']}, with {groups} and {near} of near copies. Next: {command}")
    elif document["duplicates"]["near_duplicates_file"] and not audit.spec.near_duplicates:
        note(
            "Take near copies into account in training with: "
            f"-o near_duplicates={document['duplicates']['near_duplicates_file']}"
        )
    if audit.guesses and not document["saved"]:
        command = options.command("train-all", "-o", f"group={audit.guesses[0].rule}")
        real = "The confirmed groups" if audit.spec.group else "If the guessed groups are real, they"
        note(f"{real} stay together with: {command}")
        note("To keep that for all later commands, check again with --confirm-groups --save FILE.yaml.")
    note(f"Page with pictures: {document['page']} ({document['seconds']:.1f} s).")
