"""``audit``: training images whose label is contradicted most, as a list and a page; and answers to it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from contracts.errors import DataError, UsageError
from contracts.files import write_text
from contracts.text import number_of, printable
from imagedata.audit.corrections import Corrections, corrections_file
from reporting.terminal import console, note
from workflow.auditing.answers import keep_answers, read_answers
from workflow.auditing.listing import KINDS, LabelList, list_labels
from workflow.run.prepared import PreparedData
from workflow.run.state import Run
from workflow.settings.config import RunOptions

_SHOWN = 10


def audit(
    options: RunOptions, share: float, output: Path | None = None, confirm: Path | None = None
) -> dict[str, Any]:
    """List the labels that people should look at, or take their answers.

    Args:
        options: of a finished run.
        share: of the training images that is listed.
        output: the page; ``RUNS/corrections/DATA_SET.html`` by default.
        confirm: list of answers; nothing is listed then.

    Returns:
        The document of ``--json``.

    Raises:
        UsageError: nobody has labelled the images, or there is no such list.
        ModelError: the run is not finished; says which command to run.
        DataError: the answers cannot be taken; none of them is then.
    """
    run = Run.open(options)
    data = run.data
    if data.regime == "unlabelled":
        raise UsageError(
            f"{run.config.spec.name}: nobody has labelled its images, so there is no label to contradict. "
            f"See which images to look at first with: {options.command('report')}. Give labels with: "
            f"{options.command('update', '--missed', 'FOLDER', '--normal', 'FOLDER')}"
        )
    place = corrections_file(options.runs, run.config.spec.name, run.config.spec.corrections)
    if confirm is not None:
        return _confirm(run, confirm, place)
    answered = Corrections.read(place)
    found = list_labels(run.require_ensemble(), share, answered)
    page = output or options.runs / "corrections" / f"{run.config.spec.name}.html"
    document = _document(run, found, place, page)
    _write_page(run, found, document)
    _print(found, document)
    return document


def _document(run: Run, found: LabelList, place: Path, page: Path) -> dict[str, Any]:
    data = run.data
    return {
        "dataset": run.config.spec.name,
        "recipe": run.config.recipe.name,
        "regime": data.regime,
        "classes": list(data.manifest.class_names),
        "minority": data.manifest.class_names[-1],
        "looked_at": found.looked_at,
        "contradicted": found.contradicted,
        "answered": found.answered,
        "members": list(found.members),
        "not_listed": {"test": len(data.test), "feedback": len(data.joined) + len(data.added)},
        "sentences": _sentences(found, data),
        "images": [asdict(each) for each in found.images],
        "corrections": str(place),
        "page": str(page),
        "confirm": run.config.options.command("audit", "--confirm", "ANSWERS.csv"),
    }


def _sentences(found: LabelList, data: PreparedData) -> list[str]:
    """What the list is of, and what it leaves out."""
    minority = data.manifest.class_names[-1]
    of = f"{len(found.images)} of {number_of(found.looked_at, 'training image')}"
    if found.contradicted is None:
        sentences = [
            f"{of} are listed, by how unusual they look to models that did not see them. All are said to be "
            f"normal; images of {minority} may be hidden among them."
        ]
    else:
        sentences = [
            f"{of} are listed, by how strongly models that did not see them, and the most similar images, "
            f"contradict their labels. On the whole {found.contradicted} labels are contradicted; which of "
            "these are wrong only a person can say."
        ]
    if data.test:
        sentences.append(
            f"The {number_of(len(data.test), 'test image')} are not listed: correcting only those that a "
            "model contradicts would make its figures look better than they are."
        )
    if data.joined or data.added:
        sentences.append("Feedback images are not listed: people labelled them by hand with update.")
    if found.answered:
        before = number_of(found.answered, "training image")
        sentences.append(f"Not listed again: {before} that people answered for before.")
    return sentences


def _write_page(run: Run, found: LabelList, document: dict[str, Any]) -> None:
    from workflow.auditing.page import page_of

    write_text(Path(document["page"]), page_of(run, found, document))


_TITLES = {
    "hidden": "perhaps hidden {minority}",
    "false_minority": "perhaps no {minority}",
    "other": "perhaps confused",
}


def _print(found: LabelList, document: dict[str, Any]) -> None:
    """List the first few on the terminal, and say where all of them are."""
    for sentence in document["sentences"]:
        note(sentence)
    table = Table(title=f"Labels to look at in {escape(printable(document['dataset']))}")
    table.add_column("", justify="right")
    for heading in ("image", "label", "perhaps"):
        table.add_column(heading, overflow="fold")
    labelled = document["regime"] == "labelled"
    for heading in ("p(label)", "members", "similar") if labelled else ("p_normal",):
        table.add_column(heading, justify="right")
    for each in found.images[:_SHOWN]:
        witnesses = (
            (
                f"{each.p_label:.3g}",
                f"{each.members_against}/{len(found.members)}",
                f"{each.neighbours_against}/10",
            )
            if labelled
            else (f"{each.p_normal:.3g}",)
        )
        names = (printable(text) for text in (each.path, each.label, each.suggested))
        table.add_row(str(each.rank), *map(escape, names), *witnesses)
    console.print(table)
    counts = {kind: sum(each.kind == kind for each in found.images) for kind in KINDS}
    parts = [
        f"{count} {_TITLES[kind].format(minority=document['minority'])}"
        for kind, count in counts.items()
        if count
    ]
    note(f"Listed: {printable(', '.join(parts)) or 'nothing'}.")
    note(f"All with pictures, to be answered by keys: {document['page']}. Then: {document['confirm']}")


def _confirm(run: Run, path: Path, place: Path) -> dict[str, Any]:
    """Keep the answers of a list."""
    names = run.data.manifest.class_names
    Corrections.read(place).require_classes(place, names)
    confirmed = read_answers(path, run.data.manifest)
    if not confirmed.answers:
        raise DataError(
            f"{path}: nothing to keep, as the answer to {number_of(confirmed.unsure, 'image')} is unsure. "
            "Answer some with wrong or right."
        )
    kept = keep_answers(place, confirmed)
    found_right = len(confirmed.answers) - confirmed.corrected
    command = run.config.options.command("train-all")
    note(
        f"{number_of(confirmed.corrected, 'label')} corrected, {found_right} found right"
        + (f", {confirmed.unsure} unsure and left open" if confirmed.unsure else "")
        + f". {place} holds {number_of(kept.changing, 'corrected label')} now; no image file was changed."
    )
    if confirmed.test:
        note(
            f"Of these, {number_of(confirmed.test, 'answer')} for images of the test set, which figures are "
            "measured on: if only those were looked at that a model contradicts, its figures look too good."
        )
    note(f"Next: {command}")
    return {
        "dataset": run.config.spec.name,
        "corrected": confirmed.corrected,
        "found_right": found_right,
        "unsure": confirmed.unsure,
        "of_test_set": confirmed.test,
        "corrected_in_all": kept.changing,
        "corrections": os.fspath(place),
        "next": command,
    }
