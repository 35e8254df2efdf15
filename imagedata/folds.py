"""Folds in which every class is present and no group is split."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from contracts.errors import DataError


def assign_folds(
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.str_],
    class_names: tuple[str, ...],
    n_folds: int,
    seed: int,
    dataset: str,
) -> npt.NDArray[np.int64]:
    """Return ``[N]`` the fold (0…n_folds-1) that holds each training row out.

    Args:
        labels: ``[N]`` class index.
        groups: ``[N]`` group names; rows of one group get one fold.
        class_names: for messages.
        n_folds: at least 2.
        seed: of the shuffle.
        dataset: for messages.

    Raises:
        DataError: a class has fewer images, or lies in fewer groups, than there are folds.
    """
    for index, name in enumerate(class_names):
        mine = labels == index
        for count, what in ((int(mine.sum()), "images"), (len(np.unique(groups[mine])), "groups")):
            if count < n_folds:
                advice = f"Use -o folds={count}." if count >= 2 else f"Add {what} of it; 2 is the least."
                unit = what if count != 1 else what[:-1]
                raise DataError(
                    f"{dataset}: class {name} has {count} {unit} but {n_folds} folds need {n_folds}. {advice}"
                )
    # Splitters want features, of which only the number of rows counts.
    placeholder = np.zeros((len(labels), 1))
    # Without groups of several rows the plain splitter does: it stratifies exactly, the grouped one only as
    # well as the groups allow.
    if max(Counter(groups.tolist()).values()) == 1:
        splits = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(placeholder, labels)
    else:
        grouped = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        splits = grouped.split(placeholder, labels, groups)
    fold_of_row = np.full(len(labels), -1, dtype=np.int64)
    for fold, (_, held_out) in enumerate(splits):
        fold_of_row[held_out] = fold
    # Checked afterwards as well: with few or large groups the splitter may leave a fold without a class.
    for fold in range(n_folds):
        for index, name in enumerate(class_names):
            held, rest = fold_of_row == fold, fold_of_row != fold
            if not (labels[held] == index).any() or not (labels[rest] == index).any():
                raise DataError(
                    f"{dataset}: fold {fold + 1} of {n_folds} cannot hold class {name}: its groups are too "
                    f"few or too large. Use -o folds={max(2, n_folds - 1)} or finer groups."
                )
    return fold_of_row
