"""``report``: a compared run as one HTML file that anybody can open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.errors import ModelError, UsageError
from contracts.files import read_json, write_text
from ensemble.stacking.contribution import contributions
from evaluation.metrics import default_metric
from reporting.content import Localised, Stability
from reporting.terminal import console, note
from workflow.comparing.compare import comparison_of
from workflow.comparing.learning_curve import learning_curve
from workflow.ensembling.compared_run import ComparedRun
from workflow.ensembling.measuring import ENSEMBLE_ROW
from workflow.ensembling.stability import stability_of
from workflow.pages.first_look import first_look_page
from workflow.pages.localisation import localised
from workflow.pages.models import models
from workflow.pages.origin import left_out_images, origin_of
from workflow.run.feedback_scores import with_sentence
from workflow.run.state import Run
from workflow.run.summary import data_facts, shared_across
from workflow.settings.config import RunConfig, RunOptions, resolve_config
from workflow.settings.registry import BASELINE


def report(options: RunOptions, output: Path | None = None, pictures: bool = True) -> dict[str, Any]:
    """Write the report of a run that ``compare`` or ``ensemble`` finished.

    Args:
        options: which run.
        output: target; the run folder's ``report.html`` when not given.
        pictures: show images of the data set; those of patients, or of other owners, may not be passed on.

    Returns:
        ``{path, bytes}``.

    Raises:
        UsageError: the target is a folder.
        ModelError: nothing is compared yet, or what is does not fit the settings.
        DataError: an image to be shown has gone.
    """
    if output is not None and (output.is_dir() or not output.name):
        raise UsageError(
            f"--output {output}: that is a folder. Name the file, such as {output / 'report.html'}."
        )
    config = resolve_config(options)
    text = _text(config, output, pictures)
    target = output or config.folder / "report.html"
    write_text(target, text)
    size = target.stat().st_size
    note(f"Report: {target} ({size / 1e6:.1f} MB). Open it in any browser; it needs no network.")
    return {"path": str(target), "bytes": size}


def _text(config: RunConfig, output: Path | None, pictures: bool) -> str:
    """The page; of a run without labels, the images to look at first."""
    alone = Run(config)
    if (config.folder / "config.json").exists() and alone.data.regime != "labelled":
        with console.status("drawing", spinner="dots"):
            return first_look_page(alone, output, pictures)
    with console.status("fitting from cached results", spinner="dots"):
        run, comparison = _compared_run(config)
    curve = learning_curve(run)
    with console.status("drawing", spinner="dots"):
        commands = _commands(config.options, config, comparison, output, pictures)
        found = localised(alone, pictures)
        stability = stability_of(alone, pictures)
        text = _page(run, comparison, commands, pictures, found, curve, stability, alone.finished)
    note(curve["sentence"])
    return text


def _compared_run(config: RunConfig) -> tuple[ComparedRun, dict[str, Any]]:
    """The run with the members that were compared, and its comparison.

    A run that only ``ensemble`` finished is compared here and now; everything needed is there.
    """
    again = config.options.command("compare")
    path = config.folder / "comparison.json"
    if path.exists():
        try:
            saved = read_json(path)
            chosen = {BASELINE, *saved["members"]}
            key = saved["key"]
        except (ValueError, KeyError, TypeError):  # edited, or of an older version
            raise ModelError(f"{path}: cannot be read. Run again: {again}") from None
        run = ComparedRun(config).with_members(chosen).fit()
        if key != run.comparison_key:
            raise ModelError(
                f"{config.folder}: the comparison there is of other members or settings. Run: {again}"
            )
        return run, saved
    if not (config.folder / "metrics.json").exists():
        raise ModelError(f"{config.folder}: nothing compared there yet. First run: {again}{_others(config)}")
    run = ComparedRun(config).fit()
    if run.finished is None:
        raise ModelError(f"{config.folder}: its ensemble is of other members or settings. Run: {again}")
    return run, comparison_of(run, default_metric(len(config.spec.classes)))


def _others(config: RunConfig) -> str:
    """Which other recipes of the data set a report could be written of, as an end of a sentence."""
    documents = ("metrics.json", "comparison.json")
    finished = sorted(
        {path.parent.name for name in documents for path in config.folder.parent.glob(f"*/{name}")}
    )
    if not finished:
        return ""
    command = replace(config.options, recipe=finished[0]).command("report")
    return f" Finished there: recipe {' and '.join(finished)}; for its report: {command}"


def _page(
    run: ComparedRun,
    comparison: dict[str, Any],
    commands: list[str],
    pictures: bool,
    found_by_map: Localised | None,
    curve: dict[str, Any],
    stability: Stability | None,
    in_use: dict[str, Any] | None,
) -> str:
    from reporting.content import Report
    from reporting.page import render
    from workflow.pages.gallery import galleries

    config, data = run.config, run.data
    shown, heat_source = galleries(run) if pictures else ([], "")
    report = Report(
        title=config.spec.title or config.spec.name,
        source=config.spec.source,
        licence=config.spec.licence,
        comparison=comparison,
        facts=data_facts(config, data),
        left_out_images=left_out_images(data),
        shared=shared_across(data),
        labels=run.judged.labels,
        threshold_rule=config.recipe.threshold,
        models=models(run),
        n_replicates=config.recipe.bootstrap,
        stack=_stack(run),
        galleries=shown,
        heat_source=heat_source,
        origin=origin_of(run, commands, {"members and settings": str(comparison["key"])}),
        localised=found_by_map,
        learning_curve=curve,
        stability=stability,
        in_use=in_use,
    )
    return render(report)


def _stack(run: ComparedRun) -> Any:
    from reporting.content import Stack, StackRow

    whole, members = contributions(
        run.tables[0], seed=run.config.seed, n_replicates=run.config.recipe.bootstrap
    )
    ensemble = run.fitted_rows[ENSEMBLE_ROW]
    return Stack(
        log_loss=whole.log_loss,
        average_precision=whole.average_precision,
        rows=[
            StackRow(each.member, each.weight, each.log_loss_change, each.average_precision_change)
            for each in sorted(members, key=lambda each: -each.weight)
        ],
        is_kept=not ensemble.method.startswith("single:"),
        sentences=with_sentence(ensemble, run.data).sentences,
    )


def _commands(
    options: RunOptions, config: RunConfig, comparison: dict[str, Any], output: Path | None, pictures: bool
) -> list[str]:
    """Command lines that make the run and its report again."""
    arguments = []
    if comparison["members"] != [plan.name for plan in config.members]:
        arguments += ["--members", ",".join(comparison["members"])]
    if comparison["metric"] != default_metric(len(config.spec.classes)):
        arguments += ["--metric", comparison["metric"]]
    target = [] if output is None else ["--output", str(output)]
    target += [] if pictures else ["--no-pictures"]
    return [options.command("compare", *arguments), options.command("report", *target)]
