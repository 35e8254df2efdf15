"""One file's rows for the images that both files are to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import UsageError
from export.scoring.model import ScoringModel, load_model
from export.scoring.output import read_rows
from export.scoring.plan import printable_path
from export.scoring.run import score_images
from export.scoring.shard import probability_columns
from reporting.terminal import ProgressBar, progress_bar
from workflow.versus.images import KnownImage


@dataclass(frozen=True)
class Said:
    """What one file says of N images, in the order that they were given in.

    Attributes:
        model: its path, as given.
        sha256: of the file.
        document: its metadata.
        p: ``[N]`` float64 probability of the minority; NaN where the file gives none.
        p_classes: ``[N, K]`` probabilities of all classes; None where the file gives none.
        p_normal: ``[N]`` float64; NaN where the file gives none.
        decision: class name of each image; None where it failed.
        triage: PASS, FAIL, REVIEW or NOVEL; None where the file has no triage.
        error: why an image has no scores; None where it has.
        known: images that the file was trained on.
    """

    model: Path
    sha256: str
    document: dict[str, Any]
    p: npt.NDArray[np.float64]
    p_classes: npt.NDArray[np.float64] | None
    p_normal: npt.NDArray[np.float64]
    decision: Sequence[str | None]
    triage: Sequence[str | None]
    error: Sequence[str | None]
    known: int

    @property
    def has_probability(self) -> bool:
        """Whether the file gives a calibrated probability."""
        return self.p_classes is not None

    def facts(self) -> dict[str, Any]:
        """The file in a few words, for documents."""
        return {
            "path": str(self.model),
            "sha256": self.sha256,
            "regime": self.document.get("regime", "labelled"),
            "known": self.known,
        }


def open_both(old: Path, new: Path) -> tuple[ScoringModel, ScoringModel]:
    """Read what both files say of themselves.

    Raises:
        UsageError: one is missing, or they are about different classes.
        ModelError: one is no model of ours.
    """
    first, second = load_model(old, at_first_run=True), load_model(new, at_first_run=True)
    if first.classes != second.classes:
        raise UsageError(
            f"versus: {old} knows the classes {', '.join(first.classes)}, and {new} knows "
            f"{', '.join(second.classes)}. Name two files of the same classes in the same order."
        )
    return first, second


def score_for(
    model: ScoringModel, images: Sequence[KnownImage], output: Path, what: str, processes: int | None
) -> Said:
    """Score images with one file; rows that are in the folder already are not computed again.

    Args:
        model: opened.
        images: N of them.
        output: folder for the rows.
        what: ``old`` or ``new``, for the progress.
        processes: worker processes; None for one per usable processor.
    """
    with progress_bar(f"scoring with the {what} file", len(images)) as bar:
        summary = score_images(
            model.path,
            [Path(image.path) for image in images],
            output,
            processes=processes,
            on_progress=partial(_show, bar),
        )
    rows = {row["path"]: row for row in read_rows(output).to_pylist()}
    # Path() leaves out a leading "./" and doubled slashes; the rows name what it made of them.
    ordered = [rows[printable_path(str(Path(image.path)))] for image in images]
    columns = probability_columns(model)
    p_classes = None
    if model.has_probability:
        given = np.array([[_number(row[name]) for name in columns] for row in ordered]).reshape(
            len(images), -1
        )
        p_classes = np.concatenate([1.0 - given, given], axis=1) if given.shape[1] == 1 else given
    return Said(
        model=model.path,
        sha256=model.sha256,
        document=model.document,
        p=np.full(len(images), np.nan) if p_classes is None else p_classes[:, -1],
        p_classes=p_classes,
        p_normal=np.array([_number(row["p_normal"]) for row in ordered]),
        decision=[row["decision"] for row in ordered],
        triage=[row["triage"] for row in ordered],
        error=[row["error"] for row in ordered],
        known=summary.known,
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _show(bar: ProgressBar, done: int, failed: int, total: int) -> None:
    del failed  # the table says how many, and why
    bar.reach(done, total)
