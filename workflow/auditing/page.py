"""The page of the audit: the list with pictures, near copies in one frame."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from contracts.text import printable
from imagedata.audit.thumbnails import thumbnail_jpeg
from reporting.label_audit.page import AuditPage, DoubtedLabel, Section, render_audit
from reporting.terminal import progress_bar
from workflow.auditing.listing import KINDS, Kind, LabelList, ListedLabel
from workflow.run.state import Run

MOST_PICTURES = 1000
"""More would make a page of tens of megabytes; the document of ``--json`` lists all."""


def page_of(run: Run, found: LabelList, document: dict[str, Any]) -> str:
    """The text of the page.

    Args:
        run: whose images are shown.
        found: the list.
        document: of ``--json``.
    """
    shown = found.images[:MOST_PICTURES]
    file_of = {row.path: run.data.file_of(row) for row in run.data.own_train}
    frames: dict[Kind, list[list[DoubtedLabel]]] = {kind: [] for kind in KINDS}
    with progress_bar(f"making {len(shown)} pictures", len(shown)) as bar:
        for _, family in groupby(shown, key=lambda each: each.family):
            images = list(family)
            pictures = []
            for each in images:
                jpeg = thumbnail_jpeg(file_of[each.path], run.config.decode.window)
                pictures.append(_doubted(each, found, jpeg))
                bar.advance()
            # A family is where the first of its kinds stands.
            frames[min((each.kind for each in images), key=KINDS.index)].append(pictures)
    minority = document["minority"]
    headings = {
        "hidden": (
            f"Perhaps hidden {minority}",
            f"Labelled otherwise, but most like {minority}. Each one found is one more image of the rare "
            "class.",
        ),
        "false_minority": (f"Perhaps no {minority}", f"Labelled {minority}, but most like another class."),
        "other": ("Perhaps confused", "Two classes other than the minority."),
    }
    return render_audit(
        AuditPage(
            dataset=document["dataset"],
            recipe=document["recipe"],
            classes=document["classes"],
            labelled=document["regime"] == "labelled",
            sentences=document["sentences"],
            sections=[Section(*headings[kind], mine) for kind, mine in frames.items() if mine],
            more=len(found.images) - len(shown),
            confirm=document["confirm"],
            next_command=run.config.options.command("train-all"),
            corrections=document["corrections"],
        )
    )


def _doubted(each: ListedLabel, found: LabelList, jpeg: bytes | None) -> DoubtedLabel:
    return DoubtedLabel(
        rank=each.rank,
        path=printable(each.path),
        sha256=each.sha256,
        label=each.label,
        suggested=each.suggested,
        contradicted=each.contradicted,
        p_label=each.p_label,
        p_suggested=each.p_suggested,
        p_normal=each.p_normal,
        members=(each.members_against, len(found.members)),
        neighbours=each.neighbours_against,
        jpeg=jpeg,
    )
