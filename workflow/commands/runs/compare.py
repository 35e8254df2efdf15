"""``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflow.commands.options import works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(recipe="losses", device=True, jobs=True, ray=True, tracking=True, after_training="trains")
def compare(
    options: RunOptions,
    members: Annotated[
        str | None, typer.Option("--members", help="Members to compare, as a,b,c (default: the recipe's).")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            help="Metric that the verdicts are about (default: average_precision, or balanced_accuracy for "
            "more than two classes).",
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write all figures to this file.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Also write the tables and verdicts to this file.")
    ] = None,
) -> Any:
    """Train what is missing, and test which techniques beat the calibrated baseline."""
    from workflow.comparing.compare import compare

    names = tuple(name.strip() for name in (members or "").split(",") if name.strip())
    return compare(options, names, metric, csv=csv, markdown=markdown)
