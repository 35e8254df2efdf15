"""What an update changed, by the two model files: the one it replaced and the new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from contracts.files import sha256_of_file
from contracts.text import printable
from imagedata.decoding.decode import decode_file
from reporting.terminal import console, note
from workflow.run.feedback import FILE, FeedbackImages
from workflow.run.fits import FINAL
from workflow.run.state import Run
from workflow.settings.config import RunConfig

NORMAL, MISSED = "--normal", "--missed"
_BATCH = 16
_SHOWN = 12
_COMPARED = ("auroc", "average_precision", "balanced_accuracy", "recall")


@dataclass(frozen=True)
class Given:
    """One image as the user gave it.

    Attributes:
        option: :data:`NORMAL` or :data:`MISSED`.
        file: where it lies.
        path: below the folder that was given, with forward slashes.
        label: class name that the option stands for.
        sha256: of its bytes; empty where it cannot be read.
        width: stored width in pixels.
        height: stored height in pixels.
        mode: stored pixel type.
        status: ``new``, ``known`` (added before), ``repeated`` (given twice) or ``skipped``.
        reason: why it is not ``new``.
    """

    option: str
    file: Path
    path: str
    label: str
    sha256: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    status: str = "new"
    reason: str = ""


def kept_model(config: RunConfig, sha256: str) -> Path:
    """Where the model file with this digest is kept once it is replaced."""
    return config.folder / f"model-{sha256[:12]}.onnx"


def effects(config: RunConfig, known: FeedbackImages, given: Sequence[Given]) -> dict[str, Any]:
    """The document of ``update --json``, but for its seconds; see :func:`workflow.updating.update.update`.

    Args:
        config: of the finished run.
        known: all feedback images of the run.
        given: what the user named, judged; at least one is ``new`` or ``known``.
    """
    from export.scoring.model import load_model

    run = Run(config).require_ensemble()
    minority = run.fitted.class_names[-1]
    number_of = {row.sha256: row.update for row in known.rows}
    used = [each for each in given if each.status in {"new", "known"}]
    # Images of several updates are compared with the model before the last of them.
    replaced = known.replaced[max(number_of[each.sha256] for each in used)]
    path = kept_model(config, replaced)
    old = load_model(path) if replaced and path.exists() and sha256_of_file(path) == replaced else None
    new = load_model(run.model)
    images: list[dict[str, Any]] = []
    for start in range(0, len(used), _BATCH):
        batch = used[start : start + _BATCH]
        pixels = np.stack([decode_file(each.file, config.decode).pixels for each in batch])
        facts: list[dict[str, Any]] = [
            {"path": str(each.file), "sha256": each.sha256, "label": each.label} for each in batch
        ]
        for when, model in (("before", old), ("after", new)):
            if model is None:
                for fact in facts:
                    fact.update({f"{what}_{when}": None for what in ("probability", "p_normal", "decision")})
                continue
            said = model.run(pixels)
            of_minority = _of_minority(said.probability)
            for i, fact in enumerate(facts):
                fact.update(
                    {
                        # A model of normal images alone gives no probability.
                        f"probability_{when}": None if of_minority is None else float(of_minority[i]),
                        f"p_normal_{when}": None if said.p_normal is None else float(said.p_normal[i]),
                        f"decision_{when}": model.classes[said.decision[i]],
                    }
                )
        images += facts
    # The older file may know no minority image yet, and then has no figures.
    before = {} if old is None else old.document["metrics"]
    figures = {
        name: [before.get(name), new.document["metrics"][name]]
        for name in _COMPARED
        if name in new.document["metrics"]
    }
    taken_in = {
        fit.label if fit.repeat else fit.member.name: result.taken_in
        for fit, result in run.results.items()
        if fit.fold == FINAL and result.taken_in
    }
    return {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "model": str(run.model),
        "replaced": None if old is None else str(path),
        "added": _counts([each.label for each in given if each.status == "new"], minority),
        "added_in_all": _counts([row.label for row in known.rows], minority),
        "skipped": [
            {"path": str(each.file), "reason": each.reason} for each in given if each.status == "skipped"
        ],
        "images": images,
        "taken_in": taken_in,
        "measured": run.document["measured"],
        "figures": figures,
        "regime": [None if old is None else old.document.get("regime", "labelled"), run.data.regime],
        "joined_training": bool(run.data.joined),
        "threshold": run.document["threshold"],
    }


def _of_minority(probability: np.ndarray | None) -> np.ndarray | None:
    """``[N]`` probability of the minority, the last class; None where the file gives none."""
    return probability if probability is None or probability.ndim == 1 else probability[:, -1]


def print_effects(config: RunConfig, document: dict[str, Any]) -> None:
    """Print the document as a table and sentences on stderr."""
    table = Table(title="The images given, scored by the model before and after")
    # Where no minority image is known, p_normal stands in for the probability.
    what = "p_normal" if document["regime"][1] != "labelled" else "probability"
    for heading in ("image", "is", f"{what} before", "after", "decided before", "after"):
        table.add_column(heading, justify="right" if what in heading else "left", overflow="fold")
    for image in document["images"][:_SHOWN]:
        before, after = image[f"{what}_before"], image[f"{what}_after"]
        table.add_row(
            escape(printable(Path(image["path"]).name)),
            escape(printable(image["label"])),
            "-" if before is None else f"{before:.4f}",
            "-" if after is None else f"{after:.4f}",
            escape(printable(image["decision_before"] or "-")),
            escape(printable(image["decision_after"])),
        )
    console.print(table)
    if len(document["images"]) > _SHOWN:
        note(f"… and {len(document['images']) - _SHOWN} more; --json lists all.")
    for member, count in document["taken_in"].items():
        note(f"{member}: its bank took in {count} patches or features of false alarms.")
    changes = [
        f"{name} {before:.4f} → {after:.4f}"
        for name, (before, after) in document["figures"].items()
        if before is not None
    ]
    if changes and document["measured"] == "test_set":
        note(
            f"Test set, which holds none of these images: {', '.join(changes)}. This is what the update "
            "costs elsewhere; how well it does on more images like these, only such images can show."
        )
    elif changes:
        note(f"Cross-validated, on all labelled images before and after: {', '.join(changes)}.")
    _note_joined(document)
    _note_contrary(config, document)
    if document["replaced"]:
        note(f"The previous model is kept: {document['replaced']}")
    in_all = document["added_in_all"]
    note(
        f"Added in all: {in_all['normal']} normal, {in_all['missed']} of the minority; "
        f"{config.folder / FILE} lists them. To take them back, delete that file and run "
        f"{_commands_to_undo(config, document)}."
    )


def _commands_to_undo(config: RunConfig, document: dict[str, Any]) -> str:
    """What fits the run as if no image had been added."""
    ensemble = config.options.command("ensemble")
    return (
        f"{config.options.command('train-all')}, then {ensemble}" if document["joined_training"] else ensemble
    )


def _note_joined(document: dict[str, Any]) -> None:
    """What it means that the images are training images now, and which members there are since."""
    before, after = document["regime"]
    if before != after and after == "labelled":
        note(
            "Since minority images are labelled, supervised members are trained as well, and the file gives "
            "a probability beside p_normal."
        )
    if document["joined_training"]:
        note(
            "The images given are training images now: the model after has learnt them, so its figures for "
            "them show that it did, not how well it does on others."
        )


def _note_contrary(config: RunConfig, document: dict[str, Any]) -> None:
    """Warn if an image moved the wrong way, or if the model was not wrong about it at all."""
    minority = config.spec.class_names[-1]
    judged = [
        image
        for image in document["images"]
        if image["probability_before"] is not None and image["probability_after"] is not None
    ]
    right = [
        image for image in judged if (image["decision_before"] == minority) == (image["label"] == minority)
    ]
    if right:
        note(
            f"{len(right)} of {len(judged)} images were decided correctly before, such as "
            f"{right[0]['path']}: are they in the right folder?"
        )
    contrary = [
        image
        for image in judged
        if (image["probability_after"] < image["probability_before"]) == (image["label"] == minority)
        and image["probability_after"] != image["probability_before"]
    ]
    if contrary:
        first = contrary[0]
        change = f"{first['probability_before']:.3f} → {first['probability_after']:.3f}"
        note(
            f"The probability of {len(contrary)} of {len(judged)} images moved away from their label, such "
            f"as {first['path']} ({change}). Class shares are kept, so what the other images given gained, "
            "rarer kinds lost."
        )


def _counts(labels: Sequence[str], minority: str) -> dict[str, int]:
    n_missed = sum(label == minority for label in labels)
    return {"normal": len(labels) - n_missed, "missed": n_missed}
