"""What the results table is about: its metrics' directions, the default one, and a member's own figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.rows import LabelArray
from evaluation.comparison import TABLE_METRICS
from evaluation.metrics import METRICS
from evaluation.multiclass import MULTICLASS_METRICS, macro_auroc


def directions(n_classes: int) -> dict[str, bool]:
    """Metric of the results table → whether higher is better; two classes and more have other metrics."""
    if n_classes == 2:
        return {name: METRICS[name].higher_is_better for name in TABLE_METRICS}
    return {name: metric.higher_is_better for name, metric in MULTICLASS_METRICS.items()}


def default_metric(n_classes: int) -> str:
    """What verdicts are about where the user names no metric."""
    return "average_precision" if n_classes == 2 else "acsa"


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
