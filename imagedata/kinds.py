"""Kinds of the minority, and folds that leave one kind out at a time.

Tomorrow's defect may be of a kind that nobody has photographed yet. What a model is worth then shows only if
a kind is kept from it altogether: in fold f, one kind of the minority is left out besides the fold's rows.
Every majority row is judged once, in its own fold, and every row of a kind once, in one of the folds
that leave out its kind. So a cross-fitting by kinds costs as many fits as an ordinary one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FEWEST_KINDS, FEWEST_IMAGES = 2, 2
"""Kinds that there must be, and images of each."""

NOT_JUDGED = -1


@dataclass(frozen=True)
class KindFolds:
    """Which fold leaves out which kind. N rows, F folds.

    Attributes:
        kinds: the kinds that are left out in turn, most images first; at most F.
        kind_of_row: ``[N]`` name of each minority row's kind; empty where it is unknown, and for all other
            rows.
        fold_of_row: ``[N]`` fold of the ordinary cross-fitting.
        groups: ``[N]`` numbers; rows of one group are never on both sides.
        is_minority: ``[N]``.
        judged_in: ``[N]`` fold whose fit judges the row; :data:`NOT_JUDGED` for minority rows that no fit
            can judge: of unknown kinds, of kinds that are not left out, and with images of their group among
            the rows that would be learnt from.
    """

    kinds: tuple[str, ...]
    kind_of_row: npt.NDArray[np.str_]
    fold_of_row: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    is_minority: npt.NDArray[np.bool_]
    judged_in: npt.NDArray[np.int64]

    @classmethod
    def make(
        cls,
        kind_of_row: npt.NDArray[np.str_],
        fold_of_row: npt.NDArray[np.int64],
        groups: npt.NDArray[np.int64],
        is_minority: npt.NDArray[np.bool_],
    ) -> KindFolds | None:
        """Deal kinds to folds, or None where fewer than two kinds have two images.

        Arguments are the attributes of the same names.
        """
        counts = kinds_of(kind_of_row[is_minority].tolist())
        n_folds = int(fold_of_row.max()) + 1
        kinds = tuple([kind for kind, count in counts.items() if count >= FEWEST_IMAGES][:n_folds])
        if len(kinds) < FEWEST_KINDS:
            return None
        nobody = np.full(len(groups), NOT_JUDGED, dtype=np.int64)
        folds = cls(kinds, kind_of_row, fold_of_row, groups, is_minority, nobody)
        judged_in = np.where(is_minority, NOT_JUDGED, fold_of_row).astype(np.int64)
        for kind in kinds:
            mine = np.flatnonzero(is_minority & (kind_of_row == kind))
            leave_it_out = np.array([fold for fold in range(n_folds) if folds.left_out(fold) == kind])
            # A row's own fold where that leaves its kind out; else its group goes round among those that do.
            _, number = np.unique(groups[mine], return_inverse=True)
            dealt = leave_it_out[number % len(leave_it_out)]
            judged_in[mine] = np.where(np.isin(fold_of_row[mine], leave_it_out), fold_of_row[mine], dealt)
        for fold in range(n_folds):
            learns = folds.learns(fold)
            # Where groups leave nothing to learn the minority from, there is no fit to judge by.
            known = groups[learns] if (learns & is_minority).any() else groups
            judged_in[(judged_in == fold) & is_minority & np.isin(groups, known)] = NOT_JUDGED
        return cls(kinds, kind_of_row, fold_of_row, groups, is_minority, judged_in)

    @property
    def n_folds(self) -> int:
        """F."""
        return int(self.fold_of_row.max()) + 1

    @property
    def folds(self) -> list[int]:
        """Folds in which a row of the kind that they leave out is judged."""
        return sorted(set(self.judged_in[self.is_minority].tolist()) - {NOT_JUDGED})

    def left_out(self, fold: int) -> str:
        """The kind that a fold leaves out; kinds of more images are left out by more folds."""
        return self.kinds[fold % len(self.kinds)]

    def learns(self, fold: int) -> npt.NDArray[np.bool_]:
        """``[N]`` rows that may be learnt from where a fold's majority and its kind are judged.

        These are the other folds' rows but for those of the kind that is left out. Rows of unknown kinds
        might be of it, so they stay out too.
        """
        stays_out = self.is_minority & np.isin(self.kind_of_row, ["", self.left_out(fold)])
        learns: npt.NDArray[np.bool_] = (self.fold_of_row != fold) & ~stays_out
        return learns


def kinds_of(names: Sequence[str]) -> dict[str, int]:
    """Known kinds → number of images, most first; among equals by name."""
    counted = Counter(name for name in names if name)
    return dict(sorted(counted.items(), key=lambda each: (-each[1], each[0])))
