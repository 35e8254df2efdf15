"""``report``: a compared run as one HTML file that anybody can open."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from contracts.errors import ModelError, UsageError
from contracts.files import read_json, sha256_of_file, write_text
from ensemble.contribution import contributions
from evaluation.curves import curves
from workflow.compare import DEFAULT_METRIC, comparison_of
from workflow.config import RunConfig, RunOptions, resolve_config
from workflow.console import console, note
from workflow.ensemble import CONTROL_ROW, ENSEMBLE_ROW, ensemble_key, finished_document
from workflow.facts import data_facts, shared_across
from workflow.fitted_run import FittedRun, fit_finished
from workflow.registry import CONTROL

_BEST_SINGLE = "best_single"
_LISTED_IMAGES = {"broken": 5, "excluded": 5, "dropped": 1}
"""Images that stay out, named in the report, of each status; the dropped all share one reason."""

_PACKAGES = (
    "outnumbered",
    "numpy",
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "scikit-learn",
    "scipy",
    "onnxruntime",
    "pillow",
    "matplotlib",
)


def report(options: RunOptions, output: Path | None = None) -> dict[str, Any]:
    """Write the report of a run that ``compare`` or ``ensemble`` finished.

    Args:
        options: which run.
        output: target; the run folder's ``report.html`` when not given.

    Returns:
        ``{path, bytes}``.

    Raises:
        UsageError: the target is a folder, or the data set has more than two classes.
        ModelError: nothing is compared yet, or what is does not fit the settings.
        DataError: an image to be shown has gone.
    """
    if output is not None and (output.is_dir() or not output.name):
        raise UsageError(
            f"--output {output}: that is a folder. Name the file, such as {output / 'report.html'}."
        )
    config = resolve_config(options)
    require_two_classes(config.spec.name, config.spec.class_names)
    with console.status("fitting what the receipts give", spinner="dots"):
        run, comparison = _compared_run(config)
    with console.status("drawing", spinner="dots"):
        text = _page(run, comparison, _commands(options, config, comparison, output))
    target = output or config.folder / "report.html"
    write_text(target, text)
    size = target.stat().st_size
    note(f"Report: {target} ({size / 1e6:.1f} MB). Open it in any browser; it needs no network.")
    return {"path": str(target), "bytes": size}


def require_two_classes(dataset: str, class_names: tuple[str, ...]) -> None:
    """Refuse what the page's curves cannot show yet.

    Raises:
        UsageError: more than two classes.
    """
    if len(class_names) > 2:
        raise UsageError(
            f"{dataset}: it has {len(class_names)} classes ({', '.join(class_names)}), and a report "
            "shows two for now. Read comparison.json, or name two classes with -o classes=[a,b]."
        )


def _compared_run(config: RunConfig) -> tuple[FittedRun, dict[str, Any]]:
    """The run with the members that were compared, and its comparison.

    A run that only ``ensemble`` finished is compared here and now; everything needed is there.
    """
    again = config.options.command("compare")
    path = config.folder / "comparison.json"
    if path.exists():
        try:
            saved = read_json(path)
            chosen = {CONTROL, *saved["members"]}
            key = saved["key"]
        except (ValueError, KeyError, TypeError):  # edited, or of an older version
            raise ModelError(f"{path}: cannot be read. Run again: {again}") from None
        members = tuple(plan for plan in config.members if plan.name in chosen)
        run = fit_finished(replace(config, members=members))
        if key != ensemble_key(run.config, list(run.results)):
            raise ModelError(
                f"{config.folder}: the comparison there is of other members or settings. Run: {again}"
            )
        return run, saved
    if not (config.folder / "metrics.json").exists():
        raise ModelError(f"{config.folder}: nothing compared there yet. First run: {again}")
    run = fit_finished(config)
    if finished_document(config, ensemble_key(config, list(run.results))) is None:
        raise ModelError(f"{config.folder}: its ensemble is of other members or settings. Run: {again}")
    return run, comparison_of(run, DEFAULT_METRIC)


def _page(run: FittedRun, comparison: dict[str, Any], commands: list[str]) -> str:
    from reporting.content import Origin, Report
    from reporting.page import render
    from workflow.gallery import galleries

    config, data = run.config, run.data
    shown, heat_source = galleries(run)
    left_out_images = {
        status: [(r.path, r.reason.rstrip(".")) for r in data.manifest.rows if r.status == status][:count]
        for status, count in _LISTED_IMAGES.items()
    }
    return render(
        Report(
            title=config.spec.title or config.spec.name,
            source=config.spec.source,
            licence=config.spec.licence,
            comparison=comparison,
            facts=data_facts(config, data),
            left_out_images=left_out_images,
            shared=shared_across(data),
            labels=_minority(run),
            threshold_rule=config.recipe.threshold,
            models=_models(run),
            n_replicates=config.recipe.bootstrap,
            stack=_stack(run),
            galleries=shown,
            heat_source=heat_source,
            origin=Origin(
                commands=commands,
                seed=config.seed,
                recipe_yaml=_yaml(config.recipe.model_dump(mode="json")),
                dataset_yaml=_yaml(config.spec.model_dump(mode="json")),
                versions=_versions(),
                digests=_digests(run, comparison),
            ),
        )
    )


def _minority(run: FittedRun) -> Any:
    """``[N]`` 1 where a held-out row is of the minority."""
    return (run.test.labels == len(run.test.class_names) - 1).astype(np.int64)


def _models(run: FittedRun) -> list[Any]:
    """Control, best single member and ensemble with their curves; equal ones appear once, the final last."""
    from reporting.content import Model, Role

    best = run.fitted[_BEST_SINGLE]
    used = (best.combination.weights != 0).any(axis=1).tolist()
    best_member = next(c.member for c, is_used in zip(best.columns, used, strict=True) if is_used)
    candidates: list[tuple[Role, str, str, str]] = [
        ("control", "null control", CONTROL_ROW, CONTROL),
        ("best_single", f"best single ({best_member})", _BEST_SINGLE, _BEST_SINGLE),
        ("ensemble", "ensemble", ENSEMBLE_ROW, ENSEMBLE_ROW),
    ]
    merged: list[tuple[Role, str, str, Any, float]] = []
    for role, name, row_name, key in candidates:
        p, threshold = run.fitted[key].p_minority(run.test.scores), run.fitted[key].binary_threshold
        same = next((m for m in merged if np.array_equal(m[3], p) and m[4] == threshold), None)
        if same is None:
            merged.append((role, name, row_name, p, threshold))
        else:
            merged.remove(same)
            merged.append(
                ("control" if same[0] == "control" else role, f"{same[1]} = {name}", row_name, p, threshold)
            )
    drawn = curves(
        _minority(run),
        run.test.groups,
        {name: p for _, name, _, p, _ in merged},
        prior=_minority_share(run),
        seed=run.config.seed,
        n_replicates=run.config.recipe.bootstrap,
    )
    return [Model(role, name, row, p, threshold, drawn[name]) for role, name, row, p, threshold in merged]


def _minority_share(run: FittedRun) -> float:
    prior = run.fitted[ENSEMBLE_ROW].deployment_prior
    return prior if isinstance(prior, float) else prior[-1]


def _stack(run: FittedRun) -> Any:
    from reporting.content import Stack, StackRow

    whole, members = contributions(run.oof, seed=run.config.seed, n_replicates=run.config.recipe.bootstrap)
    ensemble = run.fitted[ENSEMBLE_ROW]
    return Stack(
        log_loss=whole.log_loss,
        average_precision=whole.average_precision,
        rows=[
            StackRow(each.member, each.weight, each.log_loss_change, each.average_precision_change)
            for each in sorted(members, key=lambda each: -each.weight)
        ],
        is_kept=ensemble.method == "stack",
        sentences=ensemble.sentences,
    )


def _commands(
    options: RunOptions, config: RunConfig, comparison: dict[str, Any], output: Path | None
) -> list[str]:
    """Command lines that make the run and its report again."""
    arguments = []
    if comparison["members"] != [plan.name for plan in config.members]:
        arguments += ["--members", ",".join(comparison["members"])]
    if comparison["metric"] != DEFAULT_METRIC:
        arguments += ["--metric", comparison["metric"]]
    target = [] if output is None else ["--output", str(output)]
    return [options.command("compare", *arguments), options.command("report", *target)]


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            found[package] = "not installed"
    return found


def _digests(run: FittedRun, comparison: dict[str, Any]) -> dict[str, str]:
    digests = {
        "manifest": run.data.manifest.digest,
        "folds": run.data.folds_digest,
        "members and settings": str(comparison["key"]),
    }
    model = run.config.folder / "model.onnx"
    if finished_document(run.config, comparison["key"]) is not None:
        digests["model.onnx (SHA-256)"] = sha256_of_file(model)
    return digests
