"""Checks and score forms that all supervised members share."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from contracts.errors import DataError
from contracts.rows import ImageRows, IndexArray, LabelArray, real_positions


def require_every_class(member: str, labels: LabelArray, n_classes: int, least: int = 1) -> None:
    """Refuse training rows in which a class is missing or too small to learn from.

    Raises:
        DataError: naming the class index and its count.
    """
    counts = np.bincount(labels, minlength=n_classes)
    for index, count in enumerate(counts):
        if count < least:
            raise DataError(
                f"{member}: class {index} has {count} training images but {least} are needed. "
                "Add images of it or use fewer folds."
            )


def early_stopping_split(
    labels: LabelArray, groups: IndexArray, share: float, seed: int
) -> tuple[IndexArray, IndexArray]:
    """Positions to fit on and positions to stop by; stratified, and no group is on both sides.

    Args:
        labels: ``[N]`` class index.
        groups: ``[N]`` group number.
        share: of the rows to set aside, about.
        seed: of the shuffle.

    Raises:
        DataError: the groups are too few or too large for a class to be on both sides.
    """
    counts = np.bincount(labels)
    n_splits = max(2, min(round(1.0 / share), int(counts[counts > 0].min())))
    n_classes = int((counts > 0).sum())
    splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    if len(np.unique(groups)) >= n_splits:
        for fit, stop in splitter.split(np.zeros((len(labels), 1)), labels, groups):
            if len(np.unique(labels[fit])) == n_classes == len(np.unique(labels[stop])):
                return fit.astype(np.int64), stop.astype(np.int64)
    raise DataError(
        f"cnn with tune=full: its {len(labels)} training images lie in {len(np.unique(groups))} groups, "
        "too few to set rows of every class aside for early stopping. Use fewer folds or tune=head."
    )


def rows_to_stop_by(rows: ImageRows, share: float, seed: int) -> tuple[IndexArray, IndexArray]:
    """:func:`early_stopping_split` of rows among which there may be augmented copies.

    Real rows are split alone. A copy joins the rows to fit on where its group, in which its source is, lies
    there; the copies of rows set aside are left out, as they would show what is to judge, or judge twice.

    Args:
        rows: all rows of a fit.
        share: of the real rows to set aside, about.
        seed: of the shuffle.

    Raises:
        DataError: as of :func:`early_stopping_split`.
    """
    real = real_positions(rows)
    fit, stop = early_stopping_split(rows.labels[real], rows.groups[real], share, seed)
    copies = np.flatnonzero(rows.is_copy & np.isin(rows.groups, rows.groups[real[fit]]))
    return np.concatenate([real[fit], copies.astype(np.int64)]), real[stop]


def score_columns(logits: Tensor) -> Tensor:
    """Member scores from class logits: ``[N, 1]`` log-odds of the minority for two classes, else ``[N, K]``.

    Args:
        logits: ``[N, K]``, minority last. For K > 2 they are centred, as only differences mean anything.
    """
    if logits.shape[1] == 2:
        return logits[:, 1:] - logits[:, :1]
    return logits - logits.mean(dim=1, keepdim=True)
