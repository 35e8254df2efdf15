"""``score``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from workflow.commands.options import answers, failed_images

Threshold = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        help="Threshold, or one per class as a,b,c (default: the file's). Where the file gives no "
        "probability, it is the share of false alarms.",
    ),
]
Triage = Annotated[
    str | None,
    typer.Option(
        "--triage",
        help="Error rates of triage as MISS_RATE,FALSE_ALARMS, such as 0.01,0.02 (default: the file's).",
    ),
]


@answers(failed_images)
def score(
    model: Annotated[Path, typer.Argument(help="An exported ONNX file.", show_default=False)],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Images, folders, 'patterns/**/*.jpg', tar and zip archives, parquet files.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="Folder for the parquet files.")] = Path("scores"),
    list_file: Annotated[
        Path | None, typer.Option("--list", help="Text file with one path per line.")
    ] = None,
    path_column: Annotated[
        str | None,
        typer.Option(
            "--path-column", help="Column of parquet files that holds paths or image files (default: path)."
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="Worker processes (default: one per core)."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Batch size of each process.")] = 4,
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior",
            help="Share of the minority, of each class as a,b,c, or 'estimated' (default: the file's).",
        ),
    ] = None,
    threshold: Threshold = None,
    triage: Triage = None,
    runtime: Annotated[
        str, typer.Option("--runtime", help="onnxruntime, openvino, or auto for the faster one that agrees.")
    ] = "onnxruntime",
    ray: Annotated[
        str | None, typer.Option("--ray", help="Work on a Ray cluster: local, auto or HOST:PORT.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the results of an earlier run first.")
    ] = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write all rows to this file.")] = None,
    review: Annotated[
        int, typer.Option("--review", min=0, help="List the N most uncertain images in _review.csv.")
    ] = 0,
    heat_maps: Annotated[
        int, typer.Option("--heat-maps", min=0, help="Draw maps of the N most probable images in _heat_maps.")
    ] = 0,
    map_of: Annotated[
        str | None, typer.Option("--map", help="Member whose map is drawn (default: all of them together).")
    ] = None,
) -> Any:
    """Score images with an exported file; a broken image becomes a row with its reason."""
    from workflow.score import Extras, parse_levels, parse_override, parse_prior, score

    summary = score(
        model,
        list(paths or ()),
        output=output,
        list_file=list_file,
        path_column=path_column,
        processes=processes,
        batch_size=batch_size,
        prior=parse_prior(prior),
        threshold=parse_override("threshold", threshold),
        levels=parse_levels(triage),
        runtime=runtime,
        ray=ray,
        overwrite=overwrite,
        extras=Extras(csv, review, heat_maps, map_of),
    )
    document = dataclasses.asdict(summary)
    document.pop("already_done")
    return document
