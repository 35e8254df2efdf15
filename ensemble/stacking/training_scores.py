"""The out-of-fold table in the form that is fitted on: checked, float64, members as blocks of columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from contracts.errors import DataError, ModelError
from contracts.rows import FloatArray, LabelArray
from contracts.scores import ScoreColumn, ScoreTable
from ensemble.logistic import Float64Array


@dataclass(frozen=True)
class MemberBlock:
    """A member's columns: one for two classes or an anomaly score, K logits for K classes."""

    member: str
    columns: tuple[int, ...]

    @property
    def is_logit_block(self) -> bool:
        """True for K columns that must be scaled together."""
        return len(self.columns) > 1


def blocks_of(columns: tuple[ScoreColumn, ...], n_classes: int) -> tuple[MemberBlock, ...]:
    """Group columns by member, in column order.

    Raises:
        ModelError: a member has neither 1 nor K columns, or one logit column for K > 2 classes.
    """
    blocks = []
    for member in dict.fromkeys(column.member for column in columns):
        positions = tuple(i for i, column in enumerate(columns) if column.member == member)
        meanings = {columns[i].meaning for i in positions}
        # With two classes even a supervised member has one column, the minority's log-odds: a second would be
        # its negative.
        expected = n_classes if n_classes > 2 and "logit" in meanings else 1
        if len(positions) != expected or len(meanings) != 1:
            raise ModelError(
                f"scores of '{member}': {len(positions)} columns of {'/'.join(sorted(meanings))} for "
                f"{n_classes} classes, but {expected} expected. Train the member again for this data set."
            )
        blocks.append(MemberBlock(member, positions))
    return tuple(blocks)


# Compared by identity, so that fits on the same rows can be remembered.
@dataclass(frozen=True, eq=False)
class TrainingScores:
    """Out-of-fold rows to fit an ensemble on. N rows, M columns, K classes.

    Attributes:
        columns: M columns.
        blocks: the same columns by member.
        n_classes: K.
        scores: ``[N, M]`` float64, finite; see :func:`filled_scores` for rows that a member could not score.
        labels: ``[N]``.
        folds: ``[N]`` fold that held the row out, >= 0.
        groups: ``[N]``.
        unseen_minority: members that scored no minority row, because without the only one there was nothing
            to train them on. What stands in says nothing of them.
    """

    columns: tuple[ScoreColumn, ...]
    blocks: tuple[MemberBlock, ...]
    n_classes: int
    scores: Float64Array
    labels: LabelArray
    folds: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    unseen_minority: frozenset[str] = frozenset()

    @classmethod
    def from_table(cls, table: ScoreTable, *, labelled: bool = True) -> TrainingScores:
        """Check the table and convert it.

        Args:
            table: out-of-fold scores.
            labelled: whether every class must be there; False for tables of normal images alone.

        Raises:
            ModelError: scores are missing or infinite, a row belongs to no fold, or a group lies in two
                folds.
            DataError: there are fewer than two folds, or a class occurs in only one fold.
        """
        if not len(table.columns):
            raise ModelError(
                "out-of-fold scores: no columns. Train at least one member first (train-all does)."
            )
        infinite = np.isinf(table.scores).any(axis=0)
        if infinite.any():
            name = table.columns[int(np.argmax(infinite))].name
            raise ModelError(
                f"scores of '{name}': some are infinite. Train the member again or leave it out."
            )
        if (table.fold_of_row < 0).any():
            raise ModelError(
                f"out-of-fold scores: {int((table.fold_of_row < 0).sum())} rows belong to no fold. "
                "Fit on the out-of-fold table, never on test rows."
            )
        _check_folds(table, labelled=labelled)
        # Before anything is fitted: a NaN would spread through the standard deviation to every row.
        scores = filled_scores(table)
        n_classes = len(table.class_names)
        return cls(
            columns=table.columns,
            blocks=blocks_of(table.columns, n_classes),
            n_classes=n_classes,
            # Members score in float32; sums over thousands of rows and the optimiser need double precision.
            scores=scores.astype(np.float64),
            labels=table.labels,
            folds=table.fold_of_row,
            groups=table.groups,
            unseen_minority=_without_a_minority_score(table),
        )

    @property
    def n_positive(self) -> int:
        """Rows of the rarest class, which limits what can be learnt."""
        # The rarest class, which need not be the minority's column for K classes, sets how many coefficients
        # the rows can support.
        return int(np.bincount(self.labels, minlength=self.n_classes).min())

    @cached_property
    def without_fold(self) -> dict[int, TrainingScores]:
        """Fold → the rows of all other folds; kept, so that methods share what is fitted on them."""
        return {int(fold): self.rows(self.folds != fold) for fold in np.unique(self.folds)}

    def rows(self, mask: npt.NDArray[np.bool_]) -> TrainingScores:
        """The rows where ``mask`` is true."""
        return replace(
            self,
            scores=self.scores[mask],
            labels=self.labels[mask],
            folds=self.folds[mask],
            groups=self.groups[mask],
        )


def _check_folds(table: ScoreTable, *, labelled: bool) -> None:
    """Refuse folds that leak groups or leave a class out of what a fold is fitted on."""
    folds_of_group = np.unique(np.stack([table.groups, table.fold_of_row], axis=1), axis=0)[:, 0]
    crossing = folds_of_group[1:][folds_of_group[1:] == folds_of_group[:-1]]
    if len(crossing):
        raise ModelError(
            f"out-of-fold scores: group {crossing[0]} lies in two folds, so its rows would be predicted "
            "from one another. Make group-aware folds and train again."
        )
    for k, name in enumerate(table.class_names):
        # A class that lies in one fold only would be missing from the rows that fold is predicted from. Two
        # classes bear it for the minority, whose first image is one: weights and calibrator have a prior.
        of_class = table.fold_of_row[table.labels == k]
        is_minority_of_two = len(table.class_names) == 2 and k == 1
        needed = (1 if labelled else 0) if is_minority_of_two else 2
        if len(np.unique(of_class)) < needed:
            where = f"all in fold {of_class[0]}" if len(of_class) else "in no fold"
            raise DataError(
                f"out-of-fold scores: class '{name}' has {len(of_class)} rows, {where}, but an ensemble "
                f"needs it in at least {'two folds' if needed == 2 else 'one fold'}. Give more images of it "
                "or more groups."
            )


def substitute_sentence(table: ScoreTable) -> tuple[str, ...]:
    """Which scores :func:`filled_scores` put in, for people; nothing where the table is complete."""
    missing = np.isnan(table.scores)
    if not missing.any():
        return ()
    members = dict.fromkeys(table.columns[m].member for m in np.flatnonzero(missing.any(axis=0)))
    return (
        f"Without the only independent image of '{table.class_names[-1]}' no {', '.join(members)} could be "
        f"trained, so {int(missing.any(axis=1).sum())} rows out of fold have no such score; the mean of "
        "their other members' standardised scores stands in.",
    )


def _without_a_minority_score(table: ScoreTable) -> frozenset[str]:
    """Members with scores, but none of a minority row."""
    minority = table.labels == len(table.class_names) - 1
    missing = np.isnan(table.scores[minority])
    if not len(missing) or not missing.any():
        return frozenset()
    return frozenset(table.columns[m].member for m in np.flatnonzero(missing.all(axis=0)))


def _without_a_minority_to_learn(table: ScoreTable) -> npt.NDArray[np.bool_]:
    """``[N]`` rows of the one fold that holds every minority row, if there is such a fold."""
    folds = np.unique(table.fold_of_row[table.labels == len(table.class_names) - 1])
    if len(folds) != 1:
        return np.zeros(len(table.labels), dtype=np.bool_)
    return np.asarray(table.fold_of_row == folds[0])


def filled_scores(table: ScoreTable) -> FloatArray:
    """``[N, M]`` complete scores; where no member could be trained, the others' mean stands in.

    With one independent minority image, the fold that holds it cannot be scored by members that learn from
    the minority. In those rows, such a member's score is what it would be if it were as many standard
    deviations from its mean as the row's other scores are on average, so that it neither adds nor takes away.

    Raises:
        ModelError: a score is missing for any other reason.
        DataError: a row has no score at all.
    """
    missing = np.isnan(table.scores)
    excused = _without_a_minority_to_learn(table)
    if not missing.any() or (missing & ~excused[:, None]).any():
        table.require_complete()
        return table.scores
    if missing.all(axis=1).any():
        raise DataError(
            "out-of-fold scores: with one independent minority image, no member could score it without "
            "having learnt from it. Add a one-class member to the recipe, or a second minority image."
        )
    mean, std = np.nanmean(table.scores, axis=0), np.nanstd(table.scores, axis=0)
    standardised = (table.scores - mean) / np.where(std > 0, std, 1.0)
    others = np.nanmean(standardised, axis=1, keepdims=True)
    return np.where(missing, mean + std * others, table.scores)
