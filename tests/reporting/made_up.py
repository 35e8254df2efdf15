"""A made-up comparison, and a report of it, without a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from contracts.triage import triage_of
from evaluation.comparison import Predictions, compare
from evaluation.curves import curves
from evaluation.expected import figures_at
from evaluation.metrics import default_metric
from evaluation.triage import triage_curve, triage_figures
from evaluation.verdict import verdict
from reporting.content import Model, Origin, Report, Role, Stack, StackRow
from tests.evaluation.made_up import COUNTS_OF, made_up

NAMES = ("fine", "scratched", "cracked", "odd")
PRIOR = 0.2


def comparison_of(n_classes: int) -> dict[str, Any]:
    """The document of ``comparison.json``: a baseline, a better ensemble, and one that changes nothing."""
    return _measured(n_classes)[0]


def stability() -> dict[str, Any]:
    """Under ``stability`` in the document of ``ensemble``."""
    return {
        "images": 64,
        "of": "test images",
        "quantity": "probability",
        "changes": [
            {"name": "noise", "title": "a little noise", "changed": 7, "largest": 0.247, "median": 0.0097}
        ],
        "moved": [],
    }


def in_use() -> dict[str, Any]:
    """``triage``, ``in_use`` and ``minority`` in the document of ``ensemble``."""
    rng = np.random.default_rng(5)
    is_minority = np.arange(200) < 50
    p_normal, p_minority = rng.uniform(size=200) ** (1 + 3 * is_minority), rng.uniform(size=200)
    codes = triage_of(p_normal, p_minority, 0.05, 0.05)
    shares, groups = (0.25, 0.01), np.arange(200)
    recall, alarms = [0.8, 0.66, 0.9], [0.04, 0.015, 0.085]
    return {
        "minority": "odd",
        "triage": {
            "levels": {"miss_rate": 0.05, "false_alarms": 0.05, "rule": "auto"},
            **triage_figures(codes, is_minority, groups, 0.25),
            "curve": triage_curve(p_normal, p_minority, is_minority, groups, 0.25),
        },
        "in_use": {
            "stated": False,
            "costs": [1.0, 20.0],
            "figures": [figures_at(share, recall, alarms, (1.0, 20.0)) for share in shares],
        },
    }


def _measured(n_classes: int) -> tuple[dict[str, Any], dict[str, Predictions]]:
    rows = made_up(COUNTS_OF[n_classes])
    better = 0.4 * rows.p + 0.6 * np.eye(n_classes)[rows.labels]
    predictions = {
        "calibrated_baseline": Predictions("baseline", rows.p, rows.decision),
        "cnn": Predictions("supervised", rows.p, rows.decision),
        "ensemble": Predictions("ensemble", better, better.argmax(axis=1)),
    }
    names, metric = class_names(n_classes), default_metric(n_classes)
    table = compare(
        rows.labels,
        np.arange(len(rows.labels)),
        [predictions],
        "calibrated_baseline",
        names,
        n_replicates=100,
    )
    for row in table:
        p = None if row["kind"] == "baseline" else row["p_values"][metric]
        seconds = 1.25 if row["kind"] == "supervised" else None
        judged = None if p is None else verdict(row["minus_baseline"][metric][0], p, True)
        row |= {"adjusted_p": p, "verdict": judged, "train_seconds": seconds, "score_ms": seconds}
    document = {
        "dataset": "set",
        "recipe": "few",
        "metric": metric,
        "level": 0.05,
        "correction": "Holm",
        "repeats": 1,
        "rows": table,
        "left_out": {"deep_svdd": "its scores collapsed."},
    }
    return document, predictions


def class_names(n_classes: int) -> tuple[str, ...]:
    """K names, minority last."""
    return (*NAMES[: n_classes - 1], "odd")


def report_of(n_classes: int) -> Report:
    """A whole report without pictures."""
    document, predictions = _measured(n_classes)
    rows, names = made_up(COUNTS_OF[n_classes]), class_names(n_classes)
    two = n_classes == 2
    p = {name: predictions[name].p for name in ("calibrated_baseline", "ensemble")}
    drawn = curves(
        rows.labels,
        np.arange(len(rows.labels)),
        p,
        prior=PRIOR if two else None,
        seed=0,
        n_replicates=50,
    )
    roles: tuple[Role, ...] = ("baseline", "ensemble")
    counts = dict(zip(names, COUNTS_OF[n_classes], strict=True))
    return Report(
        title="A set",
        source="",
        licence="",
        comparison=document,
        facts={
            "classes": list(names),
            "minority": names[-1],
            "train": {name: 10 * count for name, count in counts.items()},
            "test": counts,
            "status": {},
            "folds": 3,
            "minority_per_fold": [3, 3, 4],
            "trained_prior": 0.1,
            "deployment_prior": PRIOR if two else tuple(np.full(n_classes, 1 / n_classes)),
        },
        left_out_images={},
        shared={"groups shared by training and test rows": 0},
        labels=rows.labels,
        threshold_rule="min_hter",
        models=[
            Model(
                role,
                name.replace("_", " "),
                name,
                p[name],
                predictions[name].decision,
                0.5 if two else None,
                drawn[name],
            )
            for role, name in zip(roles, p, strict=True)
        ],
        n_replicates=50,
        stack=Stack(0.3, 0.8, [StackRow("cnn", 1.0, None, None)], True, ["Platt."]),
        galleries=[],
        heat_source="",
        origin=Origin(["python cli.py compare set"], 0, "folds: 3\n", "name: set\n", {}, {}),
    )
