"""The out-of-fold table in the form that is fitted on: checked, float64, members as blocks of columns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from contracts.errors import DataError, ModelError
from contracts.rows import LabelArray
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


@dataclass(frozen=True)
class TrainingScores:
    """Out-of-fold rows to fit an ensemble on. N rows, M columns, K classes.

    Attributes:
        columns: M columns.
        blocks: the same columns by member.
        n_classes: K.
        scores: ``[N, M]`` float64, finite.
        labels: ``[N]``.
        folds: ``[N]`` fold that held the row out, >= 0.
        groups: ``[N]``.
    """

    columns: tuple[ScoreColumn, ...]
    blocks: tuple[MemberBlock, ...]
    n_classes: int
    scores: Float64Array
    labels: LabelArray
    folds: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]

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
        # Checked before anything is fitted: a NaN would spread through the standard deviation to every row.
        table.require_complete()
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
        n_classes = len(table.class_names)
        return cls(
            columns=table.columns,
            blocks=blocks_of(table.columns, n_classes),
            n_classes=n_classes,
            # Members score in float32; sums over thousands of rows and the optimiser need double precision.
            scores=table.scores.astype(np.float64),
            labels=table.labels,
            folds=table.fold_of_row,
            groups=table.groups,
        )

    @property
    def n_positive(self) -> int:
        """Rows of the rarest class, which limits what can be learnt."""
        # The rarest class, which need not be the minority's column for K classes, sets how many coefficients
        # the rows can support.
        return int(np.bincount(self.labels, minlength=self.n_classes).min())

    @property
    def can_cross_fit(self) -> bool:
        """Whether every fold can be predicted from the others: each class is in at least two folds."""
        return all(len(np.unique(self.folds[self.labels == k])) > 1 for k in range(self.n_classes))

    def rows(self, mask: npt.NDArray[np.bool_]) -> TrainingScores:
        """The rows where ``mask`` is true."""
        return replace(
            self,
            scores=self.scores[mask],
            labels=self.labels[mask],
            folds=self.folds[mask],
            groups=self.groups[mask],
        )

    def only(self, member: str) -> TrainingScores:
        """The same rows with one member's columns."""
        block = next(block for block in self.blocks if block.member == member)
        positions = list(block.columns)
        columns = tuple(self.columns[i] for i in positions)
        return replace(
            self,
            columns=columns,
            blocks=blocks_of(columns, self.n_classes),
            scores=self.scores[:, positions],
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
        # A class that lies in one fold only would be missing from the rows that fold is predicted from.
        of_class = table.fold_of_row[table.labels == k]
        if not labelled and not len(of_class):
            continue
        if len(np.unique(of_class)) < 2:
            where = f"all in fold {of_class[0]}" if len(of_class) else "in no fold"
            raise DataError(
                f"out-of-fold scores: class '{name}' has {len(of_class)} rows, {where}, but an ensemble "
                "needs it in at least two folds. Give more images of it or more groups."
            )
