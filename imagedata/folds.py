"""Folds in which every class is present, as far as it goes round, and no group is split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from contracts.errors import DataError

Folds = npt.NDArray[np.int64]


def assign_folds(
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.str_],
    class_names: tuple[str, ...],
    n_folds: int,
    seed: int,
    dataset: str,
) -> Folds:
    """Return ``[N]`` the fold (0…n_folds-1) that holds each training row out.

    A class that lies in fewer groups than there are folds is held out one group at a time: its groups lie
    in distinct folds, and the other folds hold none of it. Every fold's complement then still has the class,
    unless it lies in one group. With two classes the minority may lie in one group, or have no row; the
    majority fills all folds. With more, every class needs two groups.

    Args:
        labels: ``[N]`` class index, the minority's the highest.
        groups: ``[N]`` group names; rows of one group get one fold.
        class_names: for messages.
        n_folds: at least 2.
        seed: of the shuffle.
        dataset: for messages.

    Raises:
        DataError: a class has fewer images, or lies in fewer groups, than it needs.
    """
    n_groups = [len(np.unique(groups[labels == index])) for index in range(len(class_names))]
    for index, name in enumerate(class_names):
        n_images = int((labels == index).sum())
        _require_enough(index, n_images, n_groups, name, n_folds, dataset)
    scarce = [index for index, count in enumerate(n_groups) if count < n_folds]
    if any(n_groups[index] for index in scarce) and len(np.unique(groups)) < len(groups):
        fold_of_row = _one_group_at_a_time(labels, groups, scarce, n_folds, seed)
    elif scarce:
        fold_of_row = _one_row_at_a_time(labels, groups, scarce, n_folds, seed)
    else:
        fold_of_row = _stratified(labels, groups, n_folds, seed)
    # Checked afterwards as well: with few or large groups there may be no way.
    for fold in range(n_folds):
        held, rest = fold_of_row == fold, fold_of_row != fold
        for index, name in enumerate(class_names):
            lacks_held = index not in scarce and not (labels[held] == index).any()
            if lacks_held or (n_groups[index] > 1 and not (labels[rest] == index).any()):
                raise DataError(
                    f"{dataset}: fold {fold + 1} of {n_folds} cannot hold class {name}: its groups are too "
                    f"few or too large. Use -o folds={max(2, n_folds - 1)} or finer groups."
                )
    return fold_of_row


def _require_enough(
    index: int, n_images: int, n_groups: Sequence[int], name: str, n_folds: int, dataset: str
) -> None:
    """Refuse a class that is too small; see :func:`assign_folds` for what is enough.

    Raises:
        DataError: says what it has, what it needs, and what to do.
    """
    if len(n_groups) == 2 and index == 1:
        return
    needed = n_folds if len(n_groups) == 2 else 2
    for count, what in ((n_images, "images"), (n_groups[index], "groups")):
        if count >= needed:
            continue
        unit = what if count != 1 else what[:-1]
        has = f"{dataset}: class {name} has {count} {unit}"
        if len(n_groups) > 2:
            raise DataError(
                f"{has}; of more than two classes each needs 2, one to learn from while the other judges. "
                f"Add {what} of it, or leave the class out."
            )
        advice = f"Use -o folds={count}." if count >= 2 else f"Add {what} of it; 2 is the least."
        raise DataError(f"{has} but {n_folds} folds need {n_folds}. {advice}")


def _stratified(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[np.str_], n_folds: int, seed: int
) -> Folds:
    """``[N]`` folds where every class goes round."""
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
    return fold_of_row


def _one_row_at_a_time(
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.str_],
    scarce: Sequence[int],
    n_folds: int,
    seed: int,
) -> Folds:
    """``[N]`` folds where each row is a group of its own and some classes do not go round.

    The other classes lie as they would without the scarce ones, so that the first few labels of a minority
    move no normal image to another fold.
    """
    is_scarce = np.isin(labels, scarce)
    fold_of_row = np.empty(len(labels), dtype=np.int64)
    fold_of_row[~is_scarce] = _stratified(labels[~is_scarce], groups[~is_scarce], n_folds, seed)
    random = np.random.default_rng(seed)
    for index in scarce:
        mine = np.flatnonzero(labels == index)
        fold_of_row[mine] = random.permutation(n_folds)[: len(mine)]
    return fold_of_row


def _one_group_at_a_time(
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.str_],
    scarce: Sequence[int],
    n_folds: int,
    seed: int,
) -> Folds:
    """``[N]`` folds where some classes do not go round, by a greedy deal of whole groups.

    The groups with a scarce class come first, each to a fold that holds none of its scarce classes yet.
    The others follow by size, each to the fold that has least of its classes.
    """
    names, group_of_row = np.unique(groups, return_inverse=True)
    counts_GK = np.zeros((len(names), int(labels.max()) + 1), dtype=np.int64)  # groups, classes
    np.add.at(counts_GK, (group_of_row, labels), 1)
    random = np.random.default_rng(seed)
    shuffled, folds_in_order = random.permutation(len(names)), random.permutation(n_folds)
    has_scarce = (counts_GK[:, [i for i in scarce if i < counts_GK.shape[1]]] > 0).sum(axis=1) > 0
    sizes = counts_GK.sum(axis=1)
    # Stable sorting keeps the shuffle among groups of equal size.
    order = shuffled[np.lexsort((-sizes[shuffled], ~has_scarce[shuffled]))]
    totals = np.maximum(counts_GK.sum(axis=0), 1)
    held_FK = np.zeros((n_folds, counts_GK.shape[1]), dtype=np.int64)  # folds, classes
    fold_of_group = np.empty(len(names), dtype=np.int64)
    for group in order.tolist():
        mine = counts_GK[group]
        crowding = (held_FK * (mine / totals)).sum(axis=1)[folds_in_order]
        rare = [index for index in scarce if index < len(mine) and mine[index]]
        taken = (held_FK[:, rare].sum(axis=1) > 0)[folds_in_order]
        rows = held_FK.sum(axis=1)[folds_in_order]
        fold = int(folds_in_order[np.lexsort((rows, crowding, taken))[0]])
        fold_of_group[group] = fold
        held_FK[fold] += mine
    return fold_of_group[group_of_row]
