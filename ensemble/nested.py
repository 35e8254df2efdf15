"""Figures without a test set: every row is judged by an ensemble that was fitted without the row's fold.

Members' out-of-fold scores come from members that did not see a row. A stacker, calibrator and threshold
fitted on *all* of these scores have seen its label, though. With few minority images that matters: one label
of nine is a ninth of what a threshold is made of. So the second level is cross-fitted as well: for each fold
it is fitted again on the other folds' scores, and judges the fold (nested cross-validation, Varma & Simon
2006; the members of the inner folds are shared, which keeps the cost at seconds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from contracts.rows import LabelArray
from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from ensemble.logistic import Float64Array

FitRows = Callable[[ScoreTable], dict[str, FittedEnsemble]]
"""From an out-of-fold table to the rows of the results table, such as :func:`ensemble.pipeline.fit_all`."""


@dataclass(frozen=True, kw_only=True)
class CrossFittedEnsemble(FittedEnsemble):
    """An ensemble that judges its own training rows, each by a fit that did not see the row's fold.

    All attributes but the two below are those of the fit on all rows. :meth:`predict`, :meth:`p_normal`,
    :meth:`p_minority`, :meth:`triage` and :meth:`decide` take the scores of exactly the rows it was fitted
    on, in their order.

    Attributes:
        fold_of_row: ``[N]`` fold of each row.
        of_fold: fold → the ensemble fitted on the rows of all other folds.
    """

    fold_of_row: npt.NDArray[np.int64]
    of_fold: Mapping[int, FittedEnsemble]

    def predict(
        self, scores: npt.NDArray[np.floating[Any]], prior: float | Sequence[float] | None = None
    ) -> Float64Array:
        """Probabilities as of :meth:`ensemble.fitted.FittedEnsemble.predict`, each from its fold's fit."""
        p: Float64Array = self._by_fold(scores, lambda fitted, mine: fitted.predict(mine, prior))
        return p

    def p_normal(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """P-values as of :meth:`ensemble.fitted.FittedEnsemble.p_normal`, each from its fold's fit."""
        p: Float64Array = self._by_fold(scores, lambda fitted, mine: fitted.p_normal(mine))
        return p

    def p_minority(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """P-values as of :meth:`ensemble.fitted.FittedEnsemble.p_minority`, each from its fold's fit."""
        p: Float64Array = self._by_fold(scores, lambda fitted, mine: fitted.p_minority(mine))
        return p

    def triage(self, scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
        """Triage as of :meth:`ensemble.fitted.FittedEnsemble.triage`, each with its fold's levels."""
        codes: npt.NDArray[np.int64] = self._by_fold(scores, lambda fitted, mine: fitted.triage(mine))
        return codes

    def decide(
        self,
        scores: npt.NDArray[np.floating[Any]],
        prior: float | Sequence[float] | None = None,
        threshold: float | Sequence[float] | None = None,
    ) -> LabelArray:
        """Decisions as of :meth:`ensemble.fitted.FittedEnsemble.decide`, each with its fold's threshold."""
        decision: LabelArray = self._by_fold(
            scores, lambda fitted, mine: fitted.decide(mine, prior, threshold)
        )
        return decision

    def _by_fold(
        self, scores: npt.NDArray[np.floating[Any]], ask: Callable[[FittedEnsemble, Any], Any]
    ) -> Any:
        if len(scores) != len(self.fold_of_row):
            raise ModelError(
                f"cross-fitted ensemble: {len(scores)} rows, but it judges the {len(self.fold_of_row)} rows "
                "that it was fitted on and no others. Use the ensemble fitted on all rows for new images."
            )
        result: npt.NDArray[Any] | None = None
        for fold, fitted in self.of_fold.items():
            mine = self.fold_of_row == fold
            of_fold = ask(fitted, scores[mine])
            if result is None:
                result = np.empty((len(scores), *of_fold.shape[1:]), dtype=of_fold.dtype)
            result[mine] = of_fold
        return result


def cross_fitted(oof: ScoreTable, fit: FitRows) -> dict[str, FittedEnsemble]:
    """Fit every row of the results table on all rows, and once more without each fold.

    A minority that lies in one fold only cannot be left out: without it there is nothing to calibrate. The
    fit on all rows then judges every fold. Ranks stay out of fold, because members' scores are, and the
    weights are equal; calibration figures do not, which the caller has to say (:func:`judges_itself`).

    Args:
        oof: complete out-of-fold table.
        fit: on a table, such as :func:`ensemble.pipeline.fit_all` with its settings.

    Returns:
        Name → :class:`CrossFittedEnsemble`.
    """
    whole = fit(oof)
    folds = np.unique(oof.fold_of_row)
    if judges_itself(oof):
        of_folds = dict.fromkeys(folds.tolist(), whole)
    else:
        of_folds = {int(fold): fit(oof.rows(oof.fold_of_row != fold)) for fold in folds}
    return _judges(whole, of_folds, oof.fold_of_row)


def fitted_without(
    oof: ScoreTable,
    learns: Mapping[int, npt.NDArray[np.bool_]],
    fold_of_judged: npt.NDArray[np.int64],
    fit: FitRows,
) -> dict[str, FittedEnsemble]:
    """Fit every row of the results table once for each fold, on the rows that the fold may learn from.

    Args:
        oof: complete out-of-fold table.
        learns: fold → ``[N]`` rows that it is fitted on.
        fold_of_judged: ``[J]`` fold that judges each row of another table.
        fit: as of :func:`cross_fitted`.

    Returns:
        Name → :class:`CrossFittedEnsemble` that judges those J rows. It serves to judge alone: what is read
        of it beyond is of its first fold.
    """
    of_folds = {fold: fit(oof.rows(mask)) for fold, mask in learns.items()}
    return _judges(next(iter(of_folds.values())), of_folds, fold_of_judged)


def _judges(
    whole: Mapping[str, FittedEnsemble],
    of_folds: Mapping[int, Mapping[str, FittedEnsemble]],
    fold_of_row: npt.NDArray[np.int64],
) -> dict[str, FittedEnsemble]:
    """Name → the whole's ensemble, which judges each row by the fit of the row's fold."""
    return {
        name: CrossFittedEnsemble(
            **{field.name: getattr(fitted, field.name) for field in fields(FittedEnsemble)},
            fold_of_row=fold_of_row,
            of_fold={fold: fits[name] for fold, fits in of_folds.items()},
        )
        for name, fitted in whole.items()
    }


def judges_itself(oof: ScoreTable) -> bool:
    """Whether some class lies in a single fold, so that no fit can do without that fold."""
    return any(
        len(np.unique(oof.fold_of_row[oof.labels == label])) < 2 for label in range(len(oof.class_names))
    )
