"""The report's sentences and numbers, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.metrics import METRICS, decide
from evaluation.multiclass import MULTICLASS_METRICS
from reporting.content import AnyModel, M, Model, MulticlassModel, Report

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
    "acsa": "ACSA",
    "g_mean_product": "G-mean, product",
    "g_mean_macro": "G-mean, macro",
    "macro_f1": "macro F1",
    "macro_auroc": "macro AUROC",
    "macro_average_precision": "macro average precision",
    "accuracy": "accuracy",
    "log_loss": "log loss",
}
"""Metric → how people write it."""

TABLE = ("auroc", "average_precision", "balanced_accuracy", "hter", "f1", "g_mean", "brier", "ece")
"""Metrics of the comparison table, in order."""

MULTICLASS_TABLE = tuple(MULTICLASS_METRICS)
"""The same for K > 2 classes."""

# Metrics that both tables know have one direction.
HIGHER_IS_BETTER = {
    **{name: metric.higher_is_better for name, metric in METRICS.items()},
    **{name: metric.higher_is_better for name, metric in MULTICLASS_METRICS.items()},
}


def best_first(comparison: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows of a comparison by the metric that verdicts are about."""
    metric = comparison["metric"]
    return sorted(comparison["rows"], key=lambda row: float(row[metric]), reverse=HIGHER_IS_BETTER[metric])


def headline(report: Report[Model]) -> tuple[str, list[str]]:
    """What was found, in one sentence, and the sentences that go with it."""
    facts = report.facts
    metric = HEADINGS[report.comparison["metric"]]
    train, test = facts["train"], facts["test"]
    n_train, n_test = sum(train.values()), sum(test.values())
    minority = report.minority
    others = n_train - train[minority]
    hits, misses, alarms, spared = confusion(report, report.final)
    sentences = [
        f"Question: which technique finds images of “{minority}” better than the calibrated "
        f"baseline, in {metric}? The baseline is "
        "plain cross-entropy, calibrated, shifted to the deployment prior, with a tuned threshold.",
        f"Data: trained on {n_train:,} images, {train[minority]:,} of them “{minority}” "
        f"(1 to {others / train[minority]:.3g}); measured on {n_test:,} test images, "
        f"{test[minority]:,} of them “{minority}”, on which nothing was fitted or chosen.",
        *_shown_worse(report.comparison),
        f"At its threshold the final model, {report.final.name}, finds {hits} of {hits + misses} images of "
        f"“{minority}” and raises {alarms} false alarms among {alarms + spared} others.",
        _correction(report.comparison),
        *_repeated(report),
    ]
    return _found(report.comparison), sentences


def multiclass_headline(report: Report[MulticlassModel]) -> tuple[str, list[str]]:
    """The same for K > 2 classes."""
    facts, final = report.facts, report.final
    metric = HEADINGS[report.comparison["metric"]]
    train, test = facts["train"], facts["test"]
    minority, largest = report.minority, max(train, key=lambda name: int(train[name]))
    counts = confusion_matrix(report, final)
    sentences = [
        f"Question: which technique tells the {len(train)} classes apart better, in {metric}, than the "
        "baseline, plain cross-entropy, calibrated, shifted to the deployment prior, with a tuned decision "
        "rule?",
        f"Data: trained on {sum(train.values()):,} images, from {train[largest]:,} of “{largest}” to "
        f"{train[minority]:,} of “{minority}” (1 to {train[largest] / train[minority]:.3g}); measured on "
        f"{sum(test.values()):,} test images, {test[minority]:,} of them “{minority}”, on which nothing "
        "was fitted or chosen.",
        *_shown_worse(report.comparison),
        f"The final model, {final.name}, decides {np.trace(counts):,} of {counts.sum():,} images rightly, "
        f"among them {counts[-1, -1]:,} of {counts[-1].sum():,} images of “{minority}”, and calls "
        f"{counts[:-1, -1].sum():,} others “{minority}”.",
        _correction(report.comparison),
        *_repeated(report),
    ]
    return _found(report.comparison), sentences


def _compared(comparison: Mapping[str, Any], verdict: str | None = None) -> list[Mapping[str, Any]]:
    """Rows with a verdict, or with this one; best first."""
    rows = [row for row in best_first(comparison) if row["verdict"] is not None]
    return [row for row in rows if verdict in {None, row["verdict"]}]


def _found(comparison: Mapping[str, Any]) -> str:
    metric = HEADINGS[comparison["metric"]]
    compared, better = _compared(comparison), _compared(comparison, "better")
    if not compared:
        return "Nothing was compared with the calibrated baseline: the recipe holds no other technique."
    if better:
        names = _listed([_with_difference(row, comparison["metric"]) for row in better[:3]])
        more = f", and {len(better) - 3} more" if len(better) > 3 else ""
        return (
            f"{len(better)} of {len(compared)} shown better than the calibrated baseline in {metric}: "
            f"{names}{more}."
        )
    return f"None of {len(compared)} was shown better than the calibrated baseline in {metric}."


def _shown_worse(comparison: Mapping[str, Any]) -> list[str]:
    worse = _compared(comparison, "worse")
    return [f"Shown worse than the baseline: {_listed([row['name'] for row in worse])}."] if worse else []


def _correction(comparison: Mapping[str, Any]) -> str:
    return (
        f"A verdict needs more than an interval beside 0: it is corrected by {comparison['correction']} for "
        f"{_counted(len(_compared(comparison)), 'comparison')} made, at {comparison['level']:.0%}."
    )


def _repeated(report: Report[M]) -> list[str]:
    """What is a mean over repeats and what is not; nothing where there is one."""
    if report.n_repeats == 1:
        return []
    return [
        f"Figures of the comparison tables, also where a figure's legend or caption repeats them, are means "
        f"over {report.n_repeats} repeats of the training, and their intervals draw repeats beside rows. "
        "Curves, confusion matrices, histograms, stack, pictures, and the counts of decisions above show "
        "the first repeat."
    ]


def confusion(report: Report[Model], model: Model) -> tuple[int, int, int, int]:
    """Hits, misses, false alarms and rightly spared rows at the model's threshold."""
    flagged = decide(model.p_minority, model.threshold) == 1
    minority = report.labels == 1
    return (
        int(np.sum(flagged & minority)),
        int(np.sum(~flagged & minority)),
        int(np.sum(flagged & ~minority)),
        int(np.sum(~flagged & ~minority)),
    )


def confusion_matrix(report: Report[MulticlassModel], model: MulticlassModel) -> npt.NDArray[np.int64]:
    """``[K, K]`` how many rows of each true class (down) were decided as each class (across)."""
    k = model.p.shape[1]
    counts = np.bincount(report.labels * k + model.decision, minlength=k * k).reshape(k, k)
    return counts.astype(np.int64)


def values_of(comparison: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Row name → value of a metric."""
    return {row["name"]: float(row[metric]) for row in comparison["rows"]}


def spoken(models: Sequence[AnyModel], values: Mapping[str, float], metric: str) -> str:
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
    estimate, low, high = row["minus_baseline"][metric]
    return f"{row['name']} ({estimate:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
