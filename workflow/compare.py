"""``compare``: which technique earns its place on these images, said plainly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from rich.table import Table

from contracts.errors import UsageError, nearest_match
from contracts.files import write_json
from ensemble.pipeline import fit_all
from evaluation.verdict import holm, verdict
from workflow.config import RunConfig, RunOptions, resolve_config
from workflow.console import console, note
from workflow.ensemble import CONTROL_ROW, measure
from workflow.facts import deployment_prior
from workflow.multiclass import default_metric, directions
from workflow.prepare import load_prepared
from workflow.registry import CONTROL
from workflow.score_tables import collapsed_members, finished_results, score_tables
from workflow.train_all import train_all
from workflow.units import Unit, UnitResult, units_of

LEVEL = 0.05


def compare(options: RunOptions, members: tuple[str, ...], metric: str | None) -> dict[str, Any]:
    """Train what is missing, and judge every technique against the null control.

    Args:
        options: data set, recipe and the rest of the command line.
        members: members of the recipe to compare; all when empty. The control always takes part.
        metric: the one that verdicts are about; None for average precision, or ACSA for K > 2 classes.

    Returns:
        ``{dataset, recipe, metric, level, correction, rows}``; a row is the ensemble table's, with
        ``verdict``, ``adjusted_p``, ``train_seconds`` and ``score_ms`` (milliseconds an image beyond the
        trunk's; None for rows that are no member).

    Raises:
        UsageError: an unknown member or metric; others as in training.
    """
    config = resolve_config(options)
    n_classes = len(config.spec.classes)
    known = directions(n_classes)
    metric = metric or default_metric(n_classes)
    if metric not in known:
        raise UsageError(
            f"--metric {metric}: not known for {n_classes} classes. Known are {', '.join(known)}."
            f"{nearest_match(metric, known)}"
        )
    names = [config.member(name).name for name in members] or [plan.name for plan in config.members]
    chosen = tuple(plan for plan in config.members if plan.name in {CONTROL, *names})
    train_all(options, only=[plan.name for plan in chosen])
    config = replace(config, members=chosen)
    data = load_prepared(config)
    results = finished_results(config, units_of(config, data, config.members))
    left_out = collapsed_members(results)
    oof, test = score_tables(data, results, left_out)
    with console.status("calibrating and measuring", spinner="dots"):
        fitted = fit_all(
            oof,
            deployment_prior=deployment_prior(config, data),
            threshold_rule=config.recipe.threshold,
            seed=config.seed,
        )
        rows = measure(config, fitted, test)
    document = {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "metric": metric,
        "level": LEVEL,
        "correction": "Holm",
        "rows": _judge(rows, results, metric, known[metric]),
        "left_out": left_out,
    }
    write_json(config.folder / "comparison.json", document)
    _print(config, document)
    return document


def _judge(
    rows: list[dict[str, Any]], results: dict[Unit, UnitResult], metric: str, higher_is_better: bool
) -> list[dict[str, Any]]:
    """Add verdicts, corrected over all comparisons made, and costs."""
    # The control's own member row is the control itself: no comparison is made there.
    compared = [row for row in rows if row["name"] not in {CONTROL_ROW, CONTROL}]
    adjusted = dict(
        zip(
            (row["name"] for row in compared),
            holm([row["p_values"][metric] for row in compared]),
            strict=True,
        )
    )
    judged = []
    for row in rows:
        mine = [result for unit, result in results.items() if unit.member.name == row["name"]]
        difference = row["minus_control"][metric][0]
        p = adjusted.get(row["name"])
        judged.append(
            {
                **row,
                "adjusted_p": p,
                "verdict": None if p is None else verdict(difference, p, higher_is_better, LEVEL),
                "train_seconds": round(sum(result.seconds for result in mine), 2) if mine else None,
                "score_ms": round(float(np.median([r.score_ms for r in mine])), 3) if mine else None,
            }
        )
    return judged


def _print(config: RunConfig, document: dict[str, Any]) -> None:
    metric = document["metric"]
    table = Table(
        title=f"{document['dataset']}: {metric.replace('_', ' ')} on held-out rows, against the null control"
    )
    table.add_column("technique", no_wrap=True)
    for heading in ("value", "difference", "verdict", "seconds", "ms/image"):
        table.add_column(heading, justify="left" if heading == "verdict" else "right")
    best_first = sorted(
        document["rows"], key=lambda row: row[metric], reverse=directions(len(config.spec.classes))[metric]
    )
    for row in best_first:
        estimate, low, high = row["minus_control"][metric]
        table.add_row(
            row["name"],
            f"{row[metric]:.3f}",
            "" if row["verdict"] is None else f"{estimate:+.3f} ({low:+.3f} to {high:+.3f})",
            row["verdict"] or "the control",
            "" if row["train_seconds"] is None else f"{row['train_seconds']:.1f}",
            "" if row["score_ms"] is None else f"{row['score_ms']:.2f}",
            style={"better": "green", "worse": "red"}.get(row["verdict"] or ""),
        )
    console.print(table)
    note(
        f"Verdicts by paired bootstrap with {config.recipe.bootstrap} replicates, Holm-corrected over "
        f"{sum(row['verdict'] is not None for row in document['rows'])} comparisons at {LEVEL:.0%}. Seconds "
        "are those of all folds; ms/image come on top of the trunk's."
    )
    for name, reason in document["left_out"].items():
        note(f"{name} is left out: {reason}")
    note(f"All metrics with intervals: {config.folder / 'comparison.json'}")
