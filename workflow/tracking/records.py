"""What is logged of a run: parameters, metrics, curves and files, as plain data that knows no MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contracts.files import digest_of, read_json
from workflow.run.fits import FINAL, Fit, FitResult, read_result
from workflow.run.prepared import PreparedData
from workflow.settings.config import NOT_OF_TRAINING, RunConfig
from workflow.settings.registry import entry_of

_FIGURES = {".html", ".png", ".svg"}
_OF_ENSEMBLE = ("metrics.json", "metrics.parquet", "ensemble.json", "export.json", "model.onnx")


@dataclass(frozen=True)
class TrackedRun:
    """One run as MLflow keeps it.

    Attributes:
        name: shown to people.
        params: settings, flat.
        metrics: (name, value, step).
        tags: words.
        ended: when it ended, in seconds since 1970.
        seconds: how long it took.
        failed: shown as failed, as a member that collapsed.
    """

    name: str
    ended: float
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    failed: bool = False


@dataclass(frozen=True)
class Entry:
    """A run that ought to be logged.

    Attributes:
        key: what it is the result of; equal keys are logged once.
        files: to be copied, now and whenever they change.
        build: makes the run; called only when it is not logged yet. None when its files are gone.
    """

    key: str
    files: list[Path]
    build: Callable[[], TrackedRun | None]


def run_entry(config: RunConfig) -> Entry:
    """The run that all others of the same data set, recipe and seed are nested in."""
    document = config.to_json()
    for part, keys in NOT_OF_TRAINING.items():
        for key in keys:
            # Some are left out where they change nothing.
            document[part].pop(key, None)
    # Members have runs of their own, so that a change of one does not make the others new.
    document["recipe"].pop("members")
    document.pop("members")
    params = flat(document)
    file = config.folder / "config.json"

    def build() -> TrackedRun:
        return TrackedRun(
            name=f"{config.recipe.name}, seed {config.seed}",
            ended=file.stat().st_mtime,
            params=params,
            tags={"command": config.options.command("train-all")},
        )

    return Entry(digest_of(["run", params]), [file], build)


def member_entry(parent: Entry, data: PreparedData, fits: list[Fit]) -> Entry:
    """A member with its fits, those of all folds and the final one."""
    folder = fits[0].path.parent
    key = digest_of(["member", parent.key, fits[0].member.name, [fit.key for fit in fits]])
    return Entry(key, figures_in(folder), lambda: _member_run(data, fits))


def _member_run(data: PreparedData, fits: list[Fit]) -> TrackedRun | None:
    results: list[tuple[Fit, FitResult]] = []
    for fit in fits:
        result = read_result(fit)
        if result is None:
            return None
        results.append((fit, result))
    plan = fits[0].member
    collapsed = next((result.collapsed for _, result in results if result.collapsed), "")
    metrics: list[tuple[str, float, int]] = []
    for fit, result in results:
        metrics.append((f"{fit.path.stem}/seconds", result.seconds, 0))
        for metric, points in result.curves.items():
            metrics += [(f"{fit.path.stem}/{metric}", value, step) for step, value in points]
    seconds = sum(result.seconds for _, result in results)
    metrics += [("seconds", seconds, 0), ("score_ms", float(np.median([r.score_ms for _, r in results])), 0)]
    if not collapsed:
        metrics += _out_of_fold(data, results)
    sentences = [f"{fit.label}: {sentence}" for fit, r in results for sentence in r.sentences]
    return TrackedRun(
        name=plan.name,
        ended=max(fit.path.stat().st_mtime for fit in fits),
        params=flat({"member": plan.name, "kind": entry_of(plan.type).kind, **plan.identity()})
        | {"manifest_digest": data.manifest.digest, "folds_digest": data.folds_digest},
        metrics=metrics,
        tags=_description([collapsed, *sentences]),
        seconds=seconds,
        failed=bool(collapsed),
    )


def _out_of_fold(data: PreparedData, results: list[tuple[Fit, FitResult]]) -> list[tuple[str, float, int]]:
    """Ranking metrics of the first repeat: of each fold (the step is its number, from 0) and of all."""
    from evaluation.ranking import ranking_figures

    labels = data.labels(data.train)
    minority = (labels == len(data.manifest.class_names) - 1).astype(np.int64)
    scores = np.full(len(minority), np.nan)
    metrics = []
    for fit, result in results:
        if fit.fold == FINAL or fit.repeat:
            continue
        mine = data.fold_of_row == fit.fold
        scores[mine] = result.scores[:, -1]
        # Folds of whole groups may hold out rows of one class only; nothing can be ranked there.
        if len(set(minority[mine].tolist())) == 2:
            metrics += [
                (f"fold/{name}", value, fit.fold)
                for name, value in ranking_figures(minority[mine] == 1, scores[mine]).items()
            ]
    metrics += [
        (f"out_of_fold/{name}", value, 0) for name, value in ranking_figures(minority == 1, scores).items()
    ]
    return metrics


def ensemble_entry(config: RunConfig, parent: Entry, key: str, document: dict[str, Any]) -> Entry:
    """The fitted ensemble with the results table.

    Args:
        config: of the run.
        parent: what it is nested in.
        key: of the ensemble.
        document: that of ``ensemble --json``.
    """
    files = [config.folder / name for name in _OF_ENSEMBLE]

    def build() -> TrackedRun:
        fitted = read_json(config.folder / "ensemble.json")
        return TrackedRun(
            name="ensemble",
            ended=files[0].stat().st_mtime,
            params=flat(
                {
                    "threshold": config.recipe.threshold,
                    "bootstrap": config.recipe.bootstrap,
                    "deployment_prior": config.spec.deployment_prior,
                    "members": [plan.name for plan in config.members],
                }
            ),
            metrics=_of_rows(document["rows"])
            + [(name, value, 0) for name in ("threshold", "prior") if _is_number(value := document[name])],
            tags=_description(fitted["sentences"]),
        )

    files = [file for file in files if file.exists()]
    return Entry(digest_of(["ensemble", parent.key, key]), files + figures_in(config.folder), build)


def comparison_entry(config: RunConfig, parent: Entry, document: dict[str, Any]) -> Entry:
    """A comparison with the calibrated baseline.

    Args:
        config: of the run, with the members compared.
        parent: what it is nested in.
        document: that of ``compare --json``.
    """
    file = config.folder / "comparison.json"

    def build() -> TrackedRun:
        verdicts = {f"verdict.{row['name']}": row["verdict"] for row in document["rows"] if row["verdict"]}
        return TrackedRun(
            name=f"compare {document['metric']}",
            ended=file.stat().st_mtime,
            params=flat({key: document[key] for key in ("metric", "level", "correction")}),
            metrics=_of_rows(document["rows"]),
            tags=verdicts,
        )

    return Entry(digest_of(["compare", parent.key, document]), [file, *figures_in(config.folder)], build)


def figures_in(folder: Path) -> list[Path]:
    """Reports and pictures in a folder."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.suffix in _FIGURES and not path.name.startswith("."))


def flat(document: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """``{"a": {"b": 1}}`` → ``{"a.b": "1"}``; what is no text is written as JSON."""
    params: dict[str, str] = {}
    for key, value in document.items():
        if isinstance(value, dict) and value:
            params |= flat(value, f"{prefix}{key}.")
        else:
            words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            params[f"{prefix}{key}"] = words
    return params


def _of_rows(rows: list[dict[str, Any]]) -> list[tuple[str, float, int]]:
    """Every figure of the table's rows as ``<row>/<metric>``; intervals are in the files."""
    return [
        (f"{row['name']}/{metric}", float(value), 0)
        for row in rows
        for metric, value in row.items()
        if _is_number(value)
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _description(sentences: list[str]) -> dict[str, str]:
    """The tag that MLflow shows as a run's description."""
    text = "\n\n".join(sentence for sentence in sentences if sentence)
    return {"mlflow.note.content": text} if text else {}
