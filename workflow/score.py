"""``outnumbered score``: images in, a folder of parquet rows out, a few words for the person waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from contracts.errors import UsageError
from export.scoring.output import first_failures
from export.scoring.plan import Override
from export.scoring.run import OnProgress, ScoreSummary, score_images

_FAILURES_SHOWN = 3


def score(
    model: Path,
    paths: list[Path],
    *,
    output: Path,
    list_file: Path | None = None,
    processes: int | None = None,
    batch_size: int = 16,
    prior: Override = None,
    threshold: Override = None,
    runtime: str = "onnxruntime",
    overwrite: bool = False,
) -> ScoreSummary:
    """Score images with an exported file and say on standard error how it went.

    Standard output stays free for machine-readable results.

    Args:
        model: the ONNX file.
        paths: image files and folders.
        output: folder for the part files.
        list_file: text file of more paths.
        processes: worker processes; None for one a usable processor.
        batch_size: images a call of the graph.
        prior: override of the file's prior.
        threshold: override of the file's threshold.
        runtime: what computes the graph, or ``auto``.
        overwrite: delete an earlier run's results first.

    Raises:
        OutnumberedError: see :func:`export.scoring.run.score_images`.
    """
    console = Console(stderr=True, soft_wrap=True)
    with _progress_bar(console) as on_progress:
        summary = score_images(
            model,
            paths,
            output,
            list_file=list_file,
            processes=processes,
            batch_size=batch_size,
            prior=prior,
            threshold=threshold,
            runtime=runtime,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    _tell(console, summary)
    return summary


def parse_override(name: str, text: str | None) -> Override:
    """Read ``--prior`` or ``--threshold``: a number, or one a class with commas between.

    Raises:
        UsageError: not numbers.
    """
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--{name} '{text}': write a number, such as 0.05, or one a class, such as 0.6,0.3,0.1."
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


@contextmanager
def _progress_bar(console: Console) -> Iterator[OnProgress | None]:
    """A bar for a person at a terminal; nothing for a log file."""
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]} failed"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("scoring", total=None, failed=0)
        yield lambda done, failed, total: progress.update(task, completed=done, total=total, failed=failed)


def _tell(console: Console, summary: ScoreSummary) -> None:
    """Counts, speed, the first failures and where all of them are."""
    if summary.already_done == summary.images:
        console.print(f"Nothing to do: all {summary.images:,} images were scored by an earlier run.")
    else:
        newly_done = summary.images - summary.already_done
        earlier = f" ({summary.already_done:,} more by an earlier run)" if summary.already_done else ""
        console.print(
            f"Scored {newly_done:,} images{earlier} in {summary.seconds:.1f} s, "
            f"{summary.images_per_second:.1f} images/s.",
            highlight=False,
        )
    if summary.failed:
        console.print(f"{summary.failed:,} of {summary.images:,} images failed:", highlight=False)
        for path, reason in first_failures(summary.output, _FAILURES_SHOWN):
            console.print(f"  {escape(path)}: {escape(reason)}", highlight=False)
        if summary.failed > _FAILURES_SHOWN:
            console.print("  … all of them are the rows with status 'failed'.", highlight=False)
    console.print(f"Rows: {escape(str(summary.output))} (parquet, one row an image)", highlight=False)
