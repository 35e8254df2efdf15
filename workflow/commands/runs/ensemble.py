"""``ensemble``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.errors import UsageError
from workflow.commands.options import works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(device=True, tracking=True, after_training="keeps")
def ensemble(
    options: RunOptions,
    false_alarms: Annotated[
        float | None,
        typer.Option(
            "--false-alarms",
            help="Share of normal images that may be decided otherwise, such as 0.01. It stands for "
            "-o 'threshold=false_alarms<=0.01', or with --miss-rate for the second error rate of triage.",
        ),
    ] = None,
    miss_rate: Annotated[
        float | None,
        typer.Option(
            "--miss-rate",
            help="Share of minority images that triage may pass, such as 0.01. It needs --false-alarms, the "
            "share of normal images that may fail.",
        ),
    ] = None,
    review: Annotated[
        float | None,
        typer.Option(
            "--review",
            help="Share of images that people can look at, such as 0.05. Triage finds its error rates.",
        ),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior",
            help="Share of the minority that you expect in use, such as 0.01, for probabilities, threshold "
            "and figures. It stands for -o deployment_prior=0.01.",
        ),
    ] = None,
) -> Any:
    """Fuse the trained members into one calibrated model, measure it and export it."""
    import dataclasses

    from workflow.ensembling.ensemble import ensemble

    # As overrides, so that the commands which messages propose name them too.
    asked = _rules(false_alarms, miss_rate, review)
    asked += [] if prior is None else [f"deployment_prior={prior}"]
    options = dataclasses.replace(options, overrides=(*options.overrides, *asked))
    return ensemble(options)


def _rules(false_alarms: float | None, miss_rate: float | None, review: float | None) -> list[str]:
    """Threshold or triage rule that the options stand for.

    Raises:
        UsageError: a miss rate without the other rate, or rates beside a budget.
    """
    if review is not None:
        if miss_rate is not None:
            raise UsageError(
                "--review with --miss-rate: a budget finds the error rates by itself. Leave one of them out."
            )
        budget = [f"triage=review<={review:g}"]
        return budget if false_alarms is None else [*budget, f"threshold=false_alarms<={false_alarms:g}"]
    if miss_rate is not None:
        if false_alarms is None:
            raise UsageError(
                "--miss-rate: triage takes two error rates. Add --false-alarms, such as --false-alarms 0.02, "
                "or give --review instead."
            )
        return [f"triage=miss_rate<={miss_rate:g},false_alarms<={false_alarms:g}"]
    return [] if false_alarms is None else [f"threshold=false_alarms<={false_alarms:g}"]
