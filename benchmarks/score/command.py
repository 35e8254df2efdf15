"""The command ``python -m benchmarks score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


def score(
    options: RunOptions,
    images: Annotated[int, typer.Option("--images", help="Number of JPEG files to score.")] = 512,
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds in which every case is measured once.")] = 3,
    processes: Annotated[int | None, typer.Option("--processes", min=1, help="Worker processes.")] = None,
    anomalib: Annotated[
        bool,
        typer.Option("--anomalib/--no-anomalib", help="Also time anomalib's PatchCore on the same backbone."),
    ] = False,
    beside: Annotated[
        list[Path] | None,
        typer.Option("--beside", help="Also measure this exported file, such as one fitted in int8."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Also write the table to this file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw AUROC over speed (SVG).")] = None,
) -> Any:
    """Time a run's exported files in every runtime, beside torch and anomalib, on the same JPEGs."""
    from benchmarks.score.run import ScoreBench, bench_score

    bench = ScoreBench(images, rounds, processes, anomalib, markdown, tuple(beside or ()), plot)
    return bench_score(options, bench)
