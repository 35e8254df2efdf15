"""``parity``: every exported file, in every installed runtime, against the trained system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import UsageError
from contracts.files import sha256_of_file
from evaluation.agreement import Agreement, Outputs
from export.scoring.model import RUNTIMES, load_model
from workflow.ensembling.gate_images import GateImages, gate_images
from workflow.exporting.export import float32_file
from workflow.exporting.precision import GATE_IMAGES, outputs_of, run_gate, show_gate
from workflow.exporting.student.distil import read_student
from workflow.exporting.student.plan import StudentPlan
from workflow.run.state import Run
from workflow.run.student_file import FILE, STALE
from workflow.settings.config import RunOptions


def parity(options: RunOptions) -> dict[str, Any]:
    """Compare every exported file of a run, in every installed runtime, with the trained system.

    Args:
        options: which run.

    Returns:
        ``{dataset, recipe, images, rows}``; a row is one file in one runtime, with the figures of
        :class:`evaluation.agreement.Agreement` or, under ``skipped``, why it could not be run here.

    Raises:
        ModelError: no ensemble or no exported file yet.
    """
    run = Run.open(options).require_ensemble()
    found: list[dict[str, Any]] = []
    shown: dict[str, Agreement | str] = {}
    of_run = gate_images(run, GATE_IMAGES)
    for path, held in [*_held_files(run, of_run), *_held_student(run)]:
        for runtime in RUNTIMES:
            name = f"{path.name}, {runtime}"
            try:
                if isinstance(held, str):
                    raise UsageError(held)
                figures = run_gate(path, runtime, held.shown, held.trained)
            except UsageError as error:
                shown[name] = str(error)
                found.append({"file": path.name, "runtime": runtime, "skipped": str(error)})
                continue
            shown[name] = figures
            found.append({"file": path.name, "runtime": runtime, **figures.to_json()})
    show_gate(shown, "exported files against the trained system", of_run.what)
    return {
        "dataset": run.config.spec.name,
        "recipe": run.config.recipe.name,
        "images": len(of_run.labels),
        "rows": found,
    }


@dataclass(frozen=True)
class _Held:
    """Images, and what the trained system behind a file said of them."""

    shown: GateImages
    trained: Outputs


def _held_files(run: Run, shown: GateImages) -> list[tuple[Path, _Held | str]]:
    """The ensemble's file and its variants; or why one is held to nothing."""
    source = float32_file(run)
    held = _Held(shown, outputs_of(run.fitted, shown.member_scores))
    digest = sha256_of_file(source)
    files = [source, *sorted(run.config.folder.glob("model.*.onnx"))]
    made_of = {path: load_model(path).document.get("variant_of", digest) for path in files}
    stale = "made of an earlier model.onnx; export it again."
    return [(path, held if made_of[path] == digest else stale) for path in files]


def _held_student(run: Run) -> list[tuple[Path, _Held | str]]:
    """The student's file, which repeats the student's own training and not the ensemble's."""
    path = run.config.folder / FILE
    if not path.exists():
        return []
    document = load_model(path).document
    if document.get("student_of") != run.key:
        return [(path, STALE)]
    student = read_student(run, StudentPlan.from_json(document["student"]))
    if student is None:
        return [(path, "its training is gone; export it again with --distil.")]
    shown = gate_images(student, GATE_IMAGES)
    return [(path, _Held(shown, outputs_of(student.fitted, shown.member_scores)))]
