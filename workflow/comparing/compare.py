"""``compare``: which technique earns its place on these images, said plainly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from contracts.errors import DataError, UsageError, nearest_match
from contracts.files import write_json, write_text
from ensemble.fitted import Threshold
from evaluation.metrics import METRICS, default_metric, metrics_for
from evaluation.verdict import holm, verdict
from reporting.markdown import markdown_page
from reporting.result_tables import print_verdicts
from reporting.terminal import console, note
from workflow.comparing.ablation import worth_of_oneclass
from workflow.comparing.files import figures_table, write_figures, write_test_list
from workflow.ensembling.compared_run import ComparedRun
from workflow.ensembling.kinds import add_kinds
from workflow.ensembling.measuring import BASELINE_ROW, deployed_of, measure_repeats, models_of
from workflow.run.fits import Fit, FitResult
from workflow.run.prepared import prepare_data
from workflow.settings.config import RunConfig, RunOptions, resolve_config
from workflow.settings.registry import BASELINE
from workflow.tracking.tracker import track_comparison
from workflow.training.train import train_all

LEVEL = 0.05


def compare(
    options: RunOptions,
    members: tuple[str, ...],
    metric: str | None = None,
    csv: Path | None = None,
    markdown: Path | None = None,
) -> dict[str, Any]:
    """Train what is missing, and judge every technique against the calibrated baseline.

    Args:
        options: data set, recipe and the rest of the command line.
        members: members of the recipe to compare; all when empty. The baseline always takes part.
        metric: the one that verdicts are about; None for average precision, or balanced accuracy for more
            than two classes.
        csv: file for the figures of ``comparison.parquet`` as text.
        markdown: file for the tables, with the command line that makes them.

    Returns:
        ``{dataset, recipe, key, members, metric, level, correction, repeats, rows, left_out}`` and, where
        kinds of the minority are known, ``kinds``; ``stability`` is the ensemble's, None where that is not
        finished or of other members. A row is the ensemble table's, with ``verdict``,
        ``adjusted_p``, ``thresholds`` (one per repeat), ``train_seconds`` and ``score_ms`` (milliseconds per
        image beyond the backbone's; None for rows that are no member).

    Raises:
        UsageError: an unknown member or metric; others as in training.
        DataError: no image of the minority is labelled, so there is nothing to judge by.
    """
    for option, path in (("--csv", csv), ("--markdown", markdown)):
        if path is not None and (path.is_dir() or not path.name):
            raise UsageError(f"{option} {path}: that is a folder. Name the file.")
    config = resolve_config(options)
    n_classes = len(config.spec.classes)
    known = metrics_for(n_classes)
    metric = metric or default_metric(n_classes)
    if metric not in known:
        raise UsageError(
            f"--metric {metric}: not known for {n_classes} classes. Known are {', '.join(known)}."
            f"{nearest_match(metric, known)}"
        )
    names = [config.member(name).name for name in members] or [plan.name for plan in config.members]
    chosen = tuple(plan for plan in config.members if plan.name in {BASELINE, *names})
    _require_labels(config)
    train_all(options, only=[plan.name for plan in chosen])
    config = replace(config, members=chosen)
    with console.status("calibrating and measuring", spinner="dots"):
        run = ComparedRun(config)
        document = comparison_of(run, metric)
    figures = figures_table(document)
    predictions = [deployed_of(config, *repeat) for repeat in run.fitted_repeats]
    write_test_list(config.folder / "comparison_test.parquet", run.judged, predictions, thresholds_of(run))
    write_figures(config.folder / "comparison.parquet", figures)
    write_json(config.folder / "comparison.json", document)
    _print(config, document)
    if csv is not None:
        write_figures(csv, figures)
        note(f"The figures as text: {csv}")
    if markdown is not None:
        write_text(
            markdown, markdown_page(document, _command(config, members, metric), _footnote(config, document))
        )
        note(f"The tables as Markdown: {markdown}")
    track_comparison(config, document)
    return document


def _require_labels(config: RunConfig) -> None:
    """Refuse before minutes of training what could not be judged afterwards.

    Raises:
        DataError: no image of the minority is labelled.
    """
    if prepare_data(config).regime != "labelled":
        command = config.options.command
        raise DataError(
            f"{config.spec.name}: no image of {config.spec.minority} is labelled, so nothing can be judged "
            f"by it. The ensemble needs no labels: {command('ensemble')}. To give some: "
            f"{command('update', '--missed', 'FOLDER')}"
        )


def comparison_of(run: ComparedRun, metric: str) -> dict[str, Any]:
    """Measure a fitted run and judge it; the document of ``comparison.json``.

    ``key`` says which fits and settings it was made of, ``members`` which members took part.
    """
    rows = measure_repeats(run, run.fitted_repeats)
    by_kind = add_kinds(run, run.fitted_repeats, rows)
    higher_is_better = METRICS[metric].higher_is_better
    return {
        "dataset": run.config.spec.name,
        "recipe": run.config.recipe.name,
        "key": run.comparison_key,
        "members": [plan.name for plan in run.config.members],
        "metric": metric,
        "level": LEVEL,
        "correction": "Holm",
        "repeats": run.data.n_repeats,
        "measured": run.measured,
        "rows": _judge(rows, thresholds_of(run), run.results, metric, higher_is_better),
        "left_out": run.left_out,
        "worth_of_oneclass": worth_of_oneclass(run, metric),
        "stability": run.stability,
        **by_kind,
    }


def thresholds_of(run: ComparedRun) -> dict[str, list[Threshold]]:
    """Row of the table → its decision threshold in each repeat."""
    of_repeat = [models_of(run.config, fitted) for fitted, _ in run.fitted_repeats]
    return {name: [models[name][1].threshold for models in of_repeat] for name in of_repeat[0]}


def _command(config: RunConfig, members: tuple[str, ...], metric: str) -> str:
    chosen = ["--members", ",".join(members)] if members else []
    if metric != default_metric(len(config.spec.classes)):
        chosen += ["--metric", metric]
    return config.options.command("compare", *chosen)


def _judge(
    rows: list[dict[str, Any]],
    thresholds: Mapping[str, list[Threshold]],
    results: dict[Fit, FitResult],
    metric: str,
    higher_is_better: bool,
) -> list[dict[str, Any]]:
    """Add verdicts, corrected over all comparisons made, and costs."""
    # The baseline's own member row is the baseline itself: no comparison is made there.
    compared = [row for row in rows if row["name"] not in {BASELINE_ROW, BASELINE}]
    adjusted = dict(
        zip(
            (row["name"] for row in compared),
            holm([row["p_values"][metric] for row in compared]),
            strict=True,
        )
    )
    judged = []
    for row in rows:
        mine = [result for fit, result in results.items() if fit.member.name == row["name"]]
        difference = row["minus_baseline"][metric][0]
        p = adjusted.get(row["name"])
        judged.append(
            {
                **row,
                "thresholds": thresholds[row["name"]],
                "adjusted_p": p,
                "verdict": None if p is None else verdict(difference, p, higher_is_better, LEVEL),
                "train_seconds": round(sum(result.seconds for result in mine), 2) if mine else None,
                # The median over fits, so that one slow fit does not decide.
                "score_ms": round(float(np.median([r.score_ms for r in mine])), 3) if mine else None,
            }
        )
    return judged


def _print(config: RunConfig, document: dict[str, Any]) -> None:
    print_verdicts(document)
    note(_footnote(config, document))
    if document["worth_of_oneclass"]:
        note(document["worth_of_oneclass"]["sentence"])
    for name, reason in document["left_out"].items():
        note(f"{name} is left out: {reason}")
    note(
        f"All metrics with intervals: {config.folder / 'comparison.parquet'}; all of it: "
        f"{config.folder / 'comparison.json'}"
    )


def _footnote(config: RunConfig, document: dict[str, Any]) -> str:
    n_compared = sum(row["verdict"] is not None for row in document["rows"])
    n_repeats = document["repeats"]
    drawn = f"rows and of {n_repeats} repeats" if n_repeats > 1 else "rows"
    means = f"Figures are means over {n_repeats} repeats. " if n_repeats > 1 else ""
    return (
        f"{means}Verdicts by paired bootstrap of {drawn} with {config.recipe.bootstrap} replicates, "
        f"Holm-corrected over {n_compared} comparisons at {LEVEL:.0%}. Seconds cover all "
        f"{'repeats and ' if n_repeats > 1 else ''}folds; ms/image does not include the backbone."
    )
