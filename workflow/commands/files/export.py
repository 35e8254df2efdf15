"""``export``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.errors import UsageError
from workflow.commands.options import Device, works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(after_training="keeps")
def export(
    options: RunOptions,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="File to write (default: model.onnx or student.onnx in the run)."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option("--precision", help="fp32, or a faster second file that must pass a gate: bf16, int8."),
    ] = "fp32",
    distil: Annotated[
        bool,
        typer.Option("--distil", help="Export one small network, trained on what the ensemble says."),
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", help="Most ms per image for the student (default: a quarter of the ensemble's)."
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option("--student", help="Choose the student yourself, as NAME@SIZE, such as small_cnn@32."),
    ] = None,
    most_lost: Annotated[
        float | None,
        typer.Option(
            "--most-lost", min=0.0, max=1.0, help="Most test AUROC that the student may lose (default: 0.02)."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Epochs of the student's training (default: 12).")
    ] = None,
    device: Annotated[
        Device | None, typer.Option("--device", help="Device to train the student on (default: auto).")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Processes that train the student (default: as many as help)."),
    ] = None,
) -> Any:
    """Export a fitted ensemble as one ONNX file, which is kept only if it repeats the run's numbers."""
    of_student = {
        "--budget": budget,
        "--student": student,
        "--most-lost": most_lost,
        "--epochs": epochs,
        "--device": device,
        "--jobs": jobs,
    }
    if distil:
        from workflow.exporting.student.distil import StudentRequest, export_student

        if precision != "fp32":
            raise UsageError(f"--distil and --precision {precision}: a student is exported in fp32 only.")
        where = (device or Device.auto).word
        options = dataclasses.replace(options, device=where, jobs=jobs)
        return export_student(options, StudentRequest(budget, student, most_lost, epochs), output)
    from workflow.exporting.precision import export_in

    idle = [name for name, value in of_student.items() if value is not None]
    if idle:
        raise UsageError(f"{', '.join(idle)}: these are options of a student. Add --distil.")
    return export_in(options, precision, output)
