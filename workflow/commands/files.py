"""Commands about exported files: make one, hold it to the run, take it apart, score with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import ExitCode, UsageError
from workflow.commands.options import (
    DEFAULT_RUNS,
    Data,
    Dataset,
    Device,
    Jobs,
    Json,
    Minority,
    Overrides,
    Ray,
    RecipeName,
    Runs,
    Seed,
    print_json,
    run_options,
)

files = typer.Typer()


@files.command()
def export(
    dataset: Dataset,
    data: Data = None,
    recipe: RecipeName = "quick",
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    minority: Minority = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Target file; model.onnx or student.onnx in the run.")
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, or a faster second file: bf16, int8; gated.")
    ] = "fp32",
    distil: Annotated[
        bool, typer.Option("--distil", help="Train one small network on what the ensemble says; gated.")
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option("--budget", help="Most ms an image of the student; a quarter of the ensemble's."),
    ] = None,
    student: Annotated[
        str | None, typer.Option("--student", help="Name the student instead: NAME@SIZE, small_cnn@32.")
    ] = None,
    most_lost: Annotated[
        float | None,
        typer.Option("--most-lost", min=0.0, max=1.0, help="Test AUROC that the student may lose; 0.02."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Epochs of the student's training; 12.")
    ] = None,
    device: Annotated[
        Device | None, typer.Option("--device", help="Processor to train the student on.")
    ] = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Export a fitted ensemble as one ONNX file, kept only if it repeats the run's numbers."""
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
        where = device or Device.auto
        options = run_options(dataset, data, recipe, override, runs, seed, where, minority, jobs=jobs)
        document = export_student(options, StudentRequest(budget, student, most_lost, epochs), output)
    else:
        from workflow.exporting.precision import export_in

        idle = [name for name, value in of_student.items() if value is not None]
        if idle:
            raise UsageError(f"{', '.join(idle)}: without --distil there is no student. Add --distil.")
        options = run_options(dataset, data, recipe, override, runs, seed, Device.cpu, minority)
        document = export_in(options, precision, output)
    if as_json:
        print_json(document)


@files.command()
def parity(
    dataset: Dataset,
    data: Data = None,
    recipe: RecipeName = "quick",
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    minority: Minority = None,
    as_json: Json = False,
) -> None:
    """Hold every exported file of a run, in every runtime, to the trained system's numbers."""
    from workflow.exporting.parity import parity as run

    document = run(run_options(dataset, data, recipe, override, runs, seed, Device.cpu, minority))
    if as_json:
        print_json(document)


@files.command()
def score(
    model: Annotated[Path, typer.Argument(help="An exported ONNX file.", show_default=False)],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Images, folders, 'patterns/**/*.jpg', tar archives, parquet files.", show_default=False
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="Folder for the parquet rows.")] = Path("scores"),
    list_file: Annotated[Path | None, typer.Option("--list", help="Text file with one path a line.")] = None,
    path_column: Annotated[
        str | None,
        typer.Option("--path-column", help="Column of parquet files with paths or image files; path."),
    ] = None,
    processes: Annotated[int | None, typer.Option("--processes", min=1, help="Worker processes.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images a call of the graph.")] = 4,
    prior: Annotated[
        str | None,
        typer.Option("--prior", help="Share of the minority (of each class: a,b,c); replaces the file's."),
    ] = None,
    threshold: Annotated[
        str | None, typer.Option("--threshold", help="Replaces the file's threshold (a,b,c: a class each).")
    ] = None,
    runtime: Annotated[
        str, typer.Option("--runtime", help="onnxruntime, openvino, or auto for the faster that agrees.")
    ] = "onnxruntime",
    ray: Ray = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete an earlier run's results first.")
    ] = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all rows to this file, too.")] = None,
    review: Annotated[
        int, typer.Option("--review", min=0, help="List the N most uncertain images in _review.csv.")
    ] = 0,
    heat_maps: Annotated[
        int, typer.Option("--heat-maps", min=0, help="Draw the N most probable images in _heat_maps.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Score images with an exported file; a broken image becomes a row with its reason."""
    from workflow.score import Extras, parse_override
    from workflow.score import score as run

    summary = run(
        model,
        list(paths or ()),
        output=output,
        list_file=list_file,
        path_column=path_column,
        processes=processes,
        batch_size=batch_size,
        prior=parse_override("prior", prior),
        threshold=parse_override("threshold", threshold),
        runtime=runtime,
        ray=ray,
        overwrite=overwrite,
        extras=Extras(csv, review, heat_maps),
    )
    if as_json:
        document = dataclasses.asdict(summary)
        document.pop("already_done")
        print_json(document)
    if summary.failed:
        raise typer.Exit(ExitCode.SOME_IMAGES_FAILED)


@files.command("inspect")
def inspect_model(
    model: Annotated[Path, typer.Argument(help="ONNX file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Take an exported file apart: its members, what each costs, and what the file promises."""
    from workflow.exporting.inspect import inspect_file

    document = inspect_file(model)
    if as_json:
        print_json(document)
