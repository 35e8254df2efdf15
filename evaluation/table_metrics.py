"""A member's own figure, as the table of members shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.rows import LabelArray
from evaluation.ranking import macro_auroc, ranking_figures


def out_of_fold_figure(labels: LabelArray, scores: npt.NDArray[np.floating[Any]], n_classes: int) -> str:
    """A member's AUROC on the rows that its folds held out.

    Args:
        labels: ``[N]`` class index, minority last.
        scores: ``[R, N, C]`` of R repeats, whose mean is shown: K logits of a supervised member give the
            mean over classes, each against the rest; one column (two classes, or an anomaly score) ranks the
            minority against the others.
        n_classes: K.
    """
    from scipy.special import softmax

    if scores.shape[2] == n_classes:
        # Softmax first: one class is ranked across rows, and logits are comparable within a row only.
        figures = [macro_auroc(labels, softmax(each.astype(np.float64), axis=1)) for each in scores]
        return f"{np.mean(figures):.4f}"
    minority = labels == n_classes - 1
    figure = f"{np.mean([ranking_figures(minority, each[:, -1])['auroc'] for each in scores]):.4f}"
    return figure if n_classes == 2 else f"{figure} (minority)"
