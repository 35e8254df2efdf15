"""Checks of labels, early-stopping splits and score columns, shared by all supervised members."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from contracts.errors import DataError
from contracts.rows import ImageRows, IndexArray, LabelArray, real_positions


def require_every_class(member: str, labels: LabelArray, n_classes: int, least: int = 1) -> None:
    """Refuse training rows in which a class is missing or too small to learn from.

    Args:
        member: for the message.
        labels: ``[N]`` class index.
        n_classes: K.
        least: rows that each class needs.

    Raises:
        DataError: it names the class index and its count.
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
    """Positions to fit on and positions for early stopping; stratified, with no group on both sides.

    Args:
        labels: ``[N]`` class index.
        groups: ``[N]`` group number.
        share: approximate share of the rows to set aside.
        seed: of the shuffle.

    Raises:
        DataError: the groups are too few or too large for every class to be on both sides.
    """
    counts = np.bincount(labels)
    # No more splits than the rarest class has rows, or some splits would lack it.
    n_splits = max(2, min(round(1.0 / share), int(counts[counts > 0].min())))
    n_classes = int((counts > 0).sum())
    splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    if len(np.unique(groups)) >= n_splits:
        # Large groups can leave a class out of one side, so the first split with all classes is taken.
        for fit, stop in splitter.split(np.zeros((len(labels), 1)), labels, groups):
            if len(np.unique(labels[fit])) == n_classes == len(np.unique(labels[stop])):
                return fit.astype(np.int64), stop.astype(np.int64)
    raise DataError(
        f"cnn with tune=full: its {len(labels)} training images are in {len(np.unique(groups))} groups, too "
        "few to set rows of every class aside for early stopping. Use fewer folds or tune=head."
    )


def rows_to_stop_by(rows: ImageRows, share: float, seed: int) -> tuple[IndexArray, IndexArray]:
    """:func:`early_stopping_split` of rows that may include augmented copies.

    Only real rows are split. A copy is used for fitting if its group, which holds its source, is. Copies of
    rows set aside are not used at all: in training they would leak these rows, in validation count them
    twice.

    Args:
        rows: all rows of a fit.
        share: approximate share of the real rows to set aside.
        seed: of the shuffle.

    Raises:
        DataError: as in :func:`early_stopping_split`.
    """
    real = real_positions(rows)
    fit, stop = early_stopping_split(rows.labels[real], rows.groups[real], share, seed)
    copies = np.flatnonzero(rows.is_copy & np.isin(rows.groups, rows.groups[real[fit]]))
    return np.concatenate([real[fit], copies.astype(np.int64)]), real[stop]


def score_columns(logits: Tensor) -> Tensor:
    """Member scores from class logits: ``[N, 1]`` log-odds of the minority for two classes, else ``[N, K]``.

    Args:
        logits: ``[N, K]``, minority last. For K > 2 they are centred, because only differences are defined.
    """
    if logits.shape[1] == 2:
        # The difference of two logits is the log-odds; their common part carries no information.
        return logits[:, 1:] - logits[:, :1]
    return logits - logits.mean(dim=1, keepdim=True)
