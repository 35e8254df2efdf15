"""The command ``python -m benchmarks serve``; the list of commands has reached its length."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    model: Annotated[Path, typer.Argument(help="An exported ONNX file.", show_default=False)],
    images: Annotated[Path, typer.Argument(help="Folder of images.", show_default=False)],
    seconds: Annotated[float, typer.Option("--seconds", min=1.0, help="How long clients send.")] = 60.0,
    clients: Annotated[int, typer.Option("--clients", min=1, help="Clients at a time.")] = 32,
    most: Annotated[int, typer.Option("--images", min=1, help="Most images that are used.")] = 300,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Scoring processes.")] = 2,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Also write the page to this file.")
    ] = None,
) -> Any:
    """Load the service with good and hostile files; latencies, images per second, memory, wrong answers."""
    from benchmarks.serve.run import ServeBench, bench_serve

    return bench_serve(ServeBench(model, images, seconds, clients, most, processes, markdown))
