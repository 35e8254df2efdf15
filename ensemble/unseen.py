"""Evidence about kinds of the minority that nothing which judges them has seen.

A combination that ranks known kinds best may rest on members that know nothing else. This evidence says what
it is worth on the others: rows of a kind, scored by members that were refitted without it, and for each fold
the rows on which a combination may be fitted before it judges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from contracts.scores import ScoreTable
from ensemble.conformal import fused_score
from ensemble.logistic import Float64Array
from ensemble.stacking.stacker import METHODS, Method
from ensemble.stacking.training_scores import TrainingScores
from evaluation.bootstrap import central_interval, replicate_weights
from evaluation.ranking import Ranking

N_REPLICATES = 1000
FEWEST_GROUPS = 10
"""Independent minority images below which no interval counts as evidence."""


@dataclass(frozen=True)
class UnseenKinds:
    """Rows that are judged without their kind.

    Attributes:
        judged: their scores, by members that have not seen their kind; ``fold_of_row`` is the fold that
            judges them.
        learns: fold → ids of the rows of the out-of-fold table that the fold may learn from.
        left_out: fold → the kind that it leaves out.
    """

    judged: ScoreTable
    learns: Mapping[int, npt.NDArray[np.str_]]
    left_out: Mapping[int, str]

    def of_rows(self, oof: ScoreTable) -> UnseenEvidence | None:
        """What these rows say to a combination that is fitted on some rows of the out-of-fold table.

        Rows that are not in the table are left out, so that whoever is judged on them fits without them.
        Returns None where too few are left.
        """
        known = self._with_columns(oof).rows(np.isin(self.judged.row_ids, oof.row_ids))
        minority = len(oof.class_names) - 1
        training: dict[int, TrainingScores] = {}
        for fold, ids in self.learns.items():
            if not ((known.fold_of_row == fold) & (known.labels == minority)).any():
                continue
            table = oof.rows(np.isin(oof.row_ids, ids))
            # Each class in two folds, as a table to be fitted on has to have it.
            if all(len(np.unique(table.fold_of_row[table.labels == k])) > 1 for k in range(minority + 1)):
                training[fold] = TrainingScores.from_table(table)
        known = known.rows(np.isin(known.fold_of_row, list(training)))
        of_minority = known.groups[known.labels == minority]
        if len(np.unique(of_minority)) < FEWEST_GROUPS or len(of_minority) == len(known.labels):
            return None
        kinds = np.array([self.left_out[fold] for fold in known.fold_of_row.tolist()])
        return UnseenEvidence(known, kinds, training)

    def _with_columns(self, oof: ScoreTable) -> ScoreTable:
        """The judged rows with the table's members alone."""
        names = [column.name for column in self.judged.columns]
        kept = [names.index(column.name) for column in oof.columns]
        return replace(self.judged, columns=oof.columns, scores=self.judged.scores[:, kept])


# Compared by identity: it remembers what was asked of it.
@dataclass(frozen=True, eq=False)
class UnseenEvidence:
    """See :class:`UnseenKinds`.

    Attributes:
        judged: rows with scores.
        kinds: ``[J]`` the kind that the fold leaves out which judges the row, of majority rows as well.
        training: fold → what a combination that judges its rows is fitted on.
    """

    judged: ScoreTable
    kinds: npt.NDArray[np.str_]
    training: Mapping[int, TrainingScores]

    @cached_property
    def is_minority(self) -> npt.NDArray[np.bool_]:
        """``[J]``."""
        found: npt.NDArray[np.bool_] = self.judged.labels == len(self.judged.class_names) - 1
        return found

    def fused(self, method: Method) -> Float64Array:
        """``[J]`` log-odds of the minority, each by the method fitted for the row's fold."""
        fused = np.empty(len(self.judged.labels))
        for fold, training in self.training.items():
            mine = self.judged.fold_of_row == fold
            fused[mine] = fused_score(method(training).logits(self.judged.scores[mine]))
        return fused

    def auroc_change(
        self, fused: Float64Array, other: Float64Array, *, seed: int
    ) -> tuple[float, float, float]:
        """AUROC of ``fused`` minus that of ``other``: estimate, and 95 % interval of a paired bootstrap.

        It is the mean of the kinds' AUROCs, weighted by their images. Each kind is ranked among the majority
        rows that were judged without it as well: the log-odds of fits on other kinds have another origin.

        A kind with more images than all others together says nothing here: without it, members that learn
        from labels lose most of them, and would be judged for their number rather than for the kind.
        """
        names, number = np.unique(self.kinds, return_inverse=True)
        n_minority = np.bincount(number, weights=self.is_minority)
        telling = np.where(n_minority <= n_minority.sum() / 2.0, n_minority, 0.0)
        if not telling.any():
            telling = n_minority
        parts = []
        for kind in np.flatnonzero(telling):
            mine = np.flatnonzero(number == kind)
            share = telling[kind] / telling.sum()
            parts.append(
                (mine, share, *(Ranking(self.is_minority[mine], each[mine]) for each in (fused, other)))
            )

        def change(weights_NB: Float64Array) -> Float64Array:
            changes = [
                share * (first(weights_NB[mine])[0] - second(weights_NB[mine])[0])
                for mine, share, first, second in parts
            ]
            return np.asarray(np.sum(changes, axis=0))

        # Each kind, and the majority beside it, is a class of its own: none is ever missing from a replicate.
        classes = (number + len(names) * self.is_minority).astype(np.int64)
        blocks = replicate_weights(classes, self.judged.groups, n_replicates=N_REPLICATES, seed=seed)
        drawn = np.concatenate([change(np.ascontiguousarray(weights.T)) for weights in blocks])
        low, high = central_interval(drawn)
        return float(change(np.ones((len(fused), 1)))[0]), float(low), float(high)


def decide_on_unseen(
    evidence: UnseenEvidence, preferred: str, single: Method, *, seed: int
) -> tuple[str, str]:
    """What the ensemble is, given what the gate on known kinds prefers.

    A single member that replaces the stack because it ranks known kinds better has to hold on others too: it
    must not be shown to be worse there. Where the stack itself is shown to be worse than its guarded form
    (:func:`ensemble.stacking.weights.fit_guarded`), that takes its place. Shown means a paired 95 % interval
    of the AUROC's change that excludes 0; a point estimate decides nothing.

    Args:
        evidence: on kinds never seen.
        preferred: ``stack``, or the name of the single member's method.
        single: that method.
        seed: of the bootstrap.

    Returns:
        ``stack``, ``guarded_stack`` or ``preferred``, and why, for people.
    """
    stack = evidence.fused(METHODS["stack"])
    if preferred != "stack":
        change = evidence.auroc_change(evidence.fused(single), stack, seed=seed)
        worse = change[2] < 0.0
        return "stack" if worse else preferred, (
            f"On kinds never seen '{preferred.partition(':')[2]}' is {'' if worse else 'not '}shown to be "
            f"worse than the stack{_figures(change)}{', which stays' if worse else ''}."
        )
    kinds = {column.kind for column in evidence.judged.columns}
    if "oneclass" not in kinds or len(kinds) == 1:
        return "stack", "No one-class member beside others guards the stack against kinds never seen."
    change = evidence.auroc_change(evidence.fused(METHODS["guarded_stack"]), stack, seed=seed)
    better = change[1] > 0.0
    return "guarded_stack" if better else "stack", (
        f"On kinds never seen the stack is {'' if better else 'not '}shown to be better with a quarter of "
        f"its weight drawn back to its one-class members{_figures(change)}{', so it is' if better else ''}."
    )


def _figures(change: tuple[float, float, float]) -> str:
    """The figures of a decision."""
    return " (AUROC {:+.4f}, 95 % interval {:+.4f} to {:+.4f})".format(*change)
