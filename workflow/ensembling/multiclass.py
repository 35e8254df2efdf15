"""What the commands do differently for more than two classes: measuring, and the figures shown first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Table

from contracts.rows import LabelArray
from contracts.scores import ScoreTable
from contracts.text import printable
from ensemble.fitted import FittedEnsemble
from evaluation.comparison import TABLE_METRICS
from evaluation.metrics import METRICS
from evaluation.multiclass import MULTICLASS_METRICS, macro_auroc
from reporting.terminal import console

# Metric → heading; the order of importance, as narrow terminals show the first ones only.
SHOWN = {
    "acsa": "ACSA",
    "g_mean_product": "G-mean prod.",
    "macro_f1": "macro F1",
    "macro_auroc": "macro AUROC",
    "macro_average_precision": "m. av. prec.",
    "g_mean_macro": "G-mean macro",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "brier": "Brier",
    "ece": "ECE",
}


def directions(n_classes: int) -> dict[str, bool]:
    """Metric of the results table → whether higher is better; two classes and more have other metrics."""
    if n_classes == 2:
        return {name: METRICS[name].higher_is_better for name in TABLE_METRICS}
    return {name: metric.higher_is_better for name, metric in MULTICLASS_METRICS.items()}


def default_metric(n_classes: int) -> str:
    """What verdicts are about where the user names no metric."""
    return "average_precision" if n_classes == 2 else "acsa"


def probability_columns(fitted: FittedEnsemble, test: ScoreTable) -> dict[str, npt.NDArray[np.float64]]:
    """Columns of ``heldout.parquet``: ``p_minority`` for two classes, ``p_<class>`` for more."""
    p = fitted.predict(test.scores)
    if p.ndim == 1:
        return {"p_minority": p}
    return {f"p_{name}": p[:, k] for k, name in enumerate(test.class_names)}


def print_class_recalls(rows: list[dict[str, Any]]) -> None:
    """Print each class's recall, of the control and of the ensemble, and their difference."""
    shown = {row["kind"]: row for row in rows if row["kind"] in {"control", "ensemble"}}
    if set(shown) != {"control", "ensemble"}:
        return
    table = Table(title="Recall of each class, with 95 % intervals", padding=(0, 1))
    table.add_column("class", no_wrap=True)
    for heading in ("null control", "ensemble", "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in shown["control"]["per_class_recall"]:
        cells = [shown[kind]["per_class_recall"][name] for kind in ("control", "ensemble")]
        difference = shown["ensemble"]["per_class_recall_minus_control"][name]
        table.add_row(
            escape(printable(name)),
            *(f"{value:.3f}\n{low:.3f} {high:.3f}" for value, low, high in cells),
            f"{difference[0]:+.3f}\n{difference[1]:+.3f} {difference[2]:+.3f}",
        )
    console.print(table)


def out_of_fold_figure(labels: LabelArray, scores: npt.NDArray[np.floating[Any]], n_classes: int) -> str:
    """A member's AUROC on the rows that its folds held out, as the table of members shows it.

    Args:
        labels: ``[N]`` class index, minority last.
        scores: ``[R, N, C]`` of R repeats, whose mean is shown: K logits of a supervised member give the
            mean over classes, each against the rest; one column (two classes, or an anomaly score) ranks the
            minority against the others.
        n_classes: K.
    """
    from scipy.special import softmax
    from sklearn.metrics import roc_auc_score

    if scores.shape[2] == n_classes:
        figures = [macro_auroc(labels, softmax(each.astype(np.float64), axis=1)) for each in scores]
        return f"{np.mean(figures):.4f}"
    minority = labels == n_classes - 1
    figure = f"{np.mean([roc_auc_score(minority, each[:, -1]) for each in scores]):.4f}"
    return figure if n_classes == 2 else f"{figure} (minority)"
