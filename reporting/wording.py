"""The report's sentences and numbers, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.metrics import METRICS, decide
from reporting.content import Model, Report

HEADINGS = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "hter": "HTER",
    "f1": "F1",
    "g_mean": "G-mean",
    "brier": "Brier",
    "ece": "ECE",
    "recall": "recall",
    "specificity": "specificity",
}
"""Metric → how people write it."""

TABLE = ("auroc", "average_precision", "balanced_accuracy", "hter", "f1", "g_mean", "brier", "ece")
"""Metrics of the comparison table, in order."""


def best_first(comparison: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows of a comparison by the metric that verdicts are about."""
    metric = comparison["metric"]
    return sorted(
        comparison["rows"], key=lambda row: float(row[metric]), reverse=METRICS[metric].higher_is_better
    )


def headline(report: Report) -> tuple[str, list[str]]:
    """What was found, in one sentence, and the sentences that go with it."""
    comparison, facts = report.comparison, report.facts
    metric = HEADINGS[comparison["metric"]]
    compared = [row for row in best_first(comparison) if row["verdict"] is not None]
    better = [row for row in compared if row["verdict"] == "better"]
    worse = [row for row in compared if row["verdict"] == "worse"]
    if not compared:
        found = "Nothing was compared with the null control: the recipe holds no other technique."
    elif better:
        names = _listed([_with_difference(row, comparison["metric"]) for row in better[:3]])
        more = f", and {len(better) - 3} more" if len(better) > 3 else ""
        found = (
            f"{len(better)} of {len(compared)} shown better than the null control in {metric}: {names}{more}."
        )
    else:
        found = f"None of {len(compared)} was shown better than the null control in {metric}."
    train, test = facts["train"], facts["test"]
    n_train, n_test = sum(train.values()), sum(test.values())
    minority = report.minority
    others = n_train - train[minority]
    sentences = [
        f"Question: which technique finds images of “{minority}” better, in {metric}, than the null control, "
        "plain cross-entropy, calibrated, shifted to the deployment prior, with a tuned threshold?",
        f"Data: trained on {n_train:,} images, {train[minority]:,} of them “{minority}” "
        f"(1 to {others / train[minority]:.3g}); measured on {n_test:,} held-out images, "
        f"{test[minority]:,} of them “{minority}”, on which nothing was fitted or chosen.",
    ]
    if worse:
        sentences.append(f"Shown worse than the control: {_listed([row['name'] for row in worse])}.")
    hits, misses, alarms, spared = confusion(report, report.final)
    sentences.append(
        f"At its threshold the final model, {report.final.name}, finds {hits} of {hits + misses} images of "
        f"“{minority}” and raises {alarms} false alarms among {alarms + spared} others."
    )
    sentences.append(
        f"A verdict needs more than an interval beside 0: it is corrected by {comparison['correction']} for "
        f"{_counted(len(compared), 'comparison')} made, at {comparison['level']:.0%}."
    )
    return found, sentences


def confusion(report: Report, model: Model) -> tuple[int, int, int, int]:
    """Hits, misses, false alarms and rightly spared rows at the model's threshold."""
    flagged = decide(model.p_minority, model.threshold) == 1
    minority = report.labels == 1
    return (
        int(np.sum(flagged & minority)),
        int(np.sum(~flagged & minority)),
        int(np.sum(flagged & ~minority)),
        int(np.sum(~flagged & ~minority)),
    )


def values_of(comparison: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Row name → value of a metric."""
    return {row["name"]: float(row[metric]) for row in comparison["rows"]}


def spoken(models: Sequence[Model], values: Mapping[str, float], metric: str) -> str:
    """The values of a figure for those who cannot see it."""
    return f"{metric}: " + ", ".join(f"{m.name} {values[m.row_name]:.3f}" for m in models) + "."


def interval(bounds: Sequence[float], form: str = ".3f") -> str:
    """``0.910–0.950``, or ``-0.010 to +0.020`` where ``form`` asks for signs."""
    low, high = (format(float(bound), form) for bound in bounds)
    return f"{low} to {high}" if "+" in form else f"{low}–{high}"


def probability(p: float) -> str:
    """Four digits; never a 0 or 1 that only rounding made."""
    if 0.0 < p < 0.0001:
        return "< 0.0001"
    return "> 0.9999" if 0.9999 < p < 1.0 else f"{p:.4f}"


def _with_difference(row: Mapping[str, Any], metric: str) -> str:
    estimate, low, high = row["minus_control"][metric]
    return f"{row['name']} ({estimate:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
