"""The report's sentences and numbers, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.metrics import METRICS
from reporting.content import Model, Report


def best_first(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a comparison, best first by the metric that verdicts are about."""
    metric = METRICS[comparison["metric"]]
    rows: list[dict[str, Any]] = comparison["rows"]
    return sorted(rows, key=lambda row: float(row[metric.name]), reverse=metric.higher_is_better)


def where_measured(document: Mapping[str, Any]) -> str:
    """On which rows the figures of a document stand: ``test set`` or ``cross-validated``."""
    return "cross-validated" if document.get("measured") == "cross_validation" else "test set"


def headline(report: Report) -> tuple[str, list[str]]:
    """What was found, in one sentence, and the sentences that go with it."""
    comparison = report.comparison
    sentences = [
        _question(report),
        _data(report),
        *_shown_worse(comparison),
        _decided(report),
        _correction(comparison),
        *_repeated(report),
    ]
    return _found(comparison), sentences


def _question(report: Report) -> str:
    title = METRICS[report.comparison["metric"]].title
    task, rule = f"finds images of “{report.minority}”", "threshold"
    if not report.has_two_classes:
        task, rule = f"tells the {len(report.classes)} classes apart", "decision rule"
    return (
        f"Question: which technique {task} better than the calibrated baseline, in {title}? The baseline is "
        f"plain cross-entropy, calibrated, shifted to the deployment prior, with a tuned {rule}."
    )


def _data(report: Report) -> str:
    train, test, minority = report.facts["train"], report.facts["test"], report.minority
    n_train, n_test = sum(train.values()), sum(test.values())
    if report.has_two_classes:
        others = n_train - train[minority]
        balance = f"{train[minority]:,} of them “{minority}” (1 to {others / train[minority]:.3g})"
    else:
        largest = max(train, key=lambda name: int(train[name]))
        ratio = train[largest] / train[minority]
        balance = f"from {train[largest]:,} of “{largest}” to {train[minority]:,} of “{minority}”"
        balance += f" (1 to {ratio:.3g})"
    if where_measured(report.comparison) == "cross-validated":
        return (
            f"Data: trained on {n_train:,} images, {balance}. There is no test set: figures are from nested "
            "cross-validation, in which members, stacker, calibrator and threshold that judge an image were "
            "fitted without the image's fold. The model for use is fitted on all images."
        )
    return (
        f"Data: trained on {n_train:,} images, {balance}; measured on {n_test:,} test images, "
        f"{test[minority]:,} of them “{minority}”, on which nothing was fitted or chosen."
    )


def _decided(report: Report) -> str:
    counts, final, minority = confusion_matrix(report, report.final), report.final, report.minority
    found, alarms = counts[-1, -1], counts[:-1, -1].sum()
    if report.has_two_classes:
        return (
            f"At its threshold the final model, {final.name}, finds {found:,} of {counts[-1].sum():,} images "
            f"of “{minority}” and raises {alarms:,} false alarms among {counts[:-1].sum():,} others."
        )
    return (
        f"The final model, {final.name}, classifies {np.trace(counts):,} of {counts.sum():,} images "
        f"correctly. It finds {found:,} of {counts[-1].sum():,} images of “{minority}” and takes {alarms:,} "
        f"others for “{minority}”."
    )


def _compared(comparison: Mapping[str, Any], verdict: str | None = None) -> list[dict[str, Any]]:
    """Rows with a verdict, or with this one; best first."""
    rows = [row for row in best_first(comparison) if row["verdict"] is not None]
    return [row for row in rows if verdict in {None, row["verdict"]}]


def _found(comparison: Mapping[str, Any]) -> str:
    title = METRICS[comparison["metric"]].title
    compared, better = _compared(comparison), _compared(comparison, "better")
    if not compared:
        return "Nothing was compared with the calibrated baseline: the recipe holds no other technique."
    if better:
        names = listed([_with_difference(row, comparison["metric"]) for row in better[:3]])
        more = f", and {len(better) - 3} more" if len(better) > 3 else ""
        return (
            f"{len(better)} of {len(compared)} shown better than the calibrated baseline in {title}: "
            f"{names}{more}."
        )
    return f"None of {len(compared)} was shown better than the calibrated baseline in {title}."


def _shown_worse(comparison: Mapping[str, Any]) -> list[str]:
    worse = _compared(comparison, "worse")
    return [f"Shown worse than the baseline: {listed([row['name'] for row in worse])}."] if worse else []


def _correction(comparison: Mapping[str, Any]) -> str:
    return (
        "An interval that excludes 0 is not enough for a verdict: verdicts are corrected by "
        f"{comparison['correction']} for {counted(len(_compared(comparison)), 'comparison')}, at a level of "
        f"{comparison['level']:.0%}."
    )


def _repeated(report: Report) -> list[str]:
    """What is a mean over repeats and what is not; nothing where there is one."""
    if report.n_repeats == 1:
        return []
    return [
        f"Figures in the comparison tables, and where legends or captions repeat them, are means "
        f"over {report.n_repeats} repeats of the training; their intervals draw repeats as well as rows. "
        "Curves, confusion matrices, histograms, the stack, pictures, and the counts of decisions above show "
        "the first repeat."
    ]


def confusion_matrix(report: Report, model: Model) -> npt.NDArray[np.int64]:
    """``[K, K]`` how many rows of each true class (down) were decided as each class (across)."""
    k = model.p.shape[1]
    counts = np.bincount(report.labels * k + model.decision, minlength=k * k).reshape(k, k)
    return counts.astype(np.int64)


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


def capitalised(words: str) -> str:
    """The same with a capital first letter, as at the start of a heading; the rest stays as it is."""
    return words[:1].upper() + words[1:]


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(count: int, thing: str) -> str:
    """``1 comparison``, ``2 comparisons``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _with_difference(row: Mapping[str, Any], metric: str) -> str:
    estimate, low, high = row["minus_baseline"][metric]
    return f"{row['name']} ({estimate:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})"


STABILITY = "Changes that no eye sees"
STABILITY_COLUMNS = ("change of the image", "changed decisions", "largest change", "median change")


def stability_sentence(stability: Mapping[str, Any]) -> str:
    """What the table of stability shows, and on which images.

    Args:
        stability: under that key in the document of ``ensemble``.
    """
    quantity = "the probability" if stability["quantity"] == "probability" else "p_normal"
    return (
        f"How the ensemble's decisions and {quantity} change where the image hardly does, on "
        f"{stability['images']} {stability['of']}."
    )


def stability_rows(stability: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Cells of :data:`STABILITY_COLUMNS`, a row per perturbation."""
    return [
        (each["title"], str(each["changed"]), f"{each['largest']:.3f}", f"{each['median']:.4f}")
        for each in stability["changes"]
    ]
