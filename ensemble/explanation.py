"""The members' shares of an image's logit, and where its scores lie among those of other images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.rows import FloatArray
from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble


@dataclass(frozen=True)
class MemberShare:
    """One member's part in an image's probability.

    Attributes:
        member: its name.
        score: raw, in the member's own unit; of K logits the minority's minus their mean, because only
            differences between classes matter.
        contribution: what the score adds to the combination's log-odds of the minority (for K > 2: to its
            logit minus the mean of all), relative to scores that are average among the out-of-fold rows.
            Without labels, what it adds to the mean of standardised scores.
        above_majority: share of the majority's out-of-fold rows with a lower score, 0…1.
        above_minority: the same for the minority's; None where there are none.
    """

    member: str
    score: float
    contribution: float
    above_majority: float
    above_minority: float | None


def member_shares(fitted: FittedEnsemble, oof: ScoreTable, scores: FloatArray) -> list[MemberShare]:
    """Decompose an image's logit into the members' contributions.

    A combination is a weighted sum of standardised scores plus an intercept, so contributions are exact: with
    the intercept they sum to the logit that the calibrator receives. Calibrator and prior shift turn it into
    a probability; both are monotone.

    Args:
        fitted: the ensemble.
        oof: what it was fitted on.
        scores: ``[M]`` of one image.

    Returns:
        One share per member, in column order.
    """
    combination = fitted.combination
    # z is 0 for a score that is average out of fold, so each product z * weight is already relative to it.
    z = combination.transform(scores[None])[0]
    # Out-of-fold scores only: a score by a member that was fitted on the row would look too normal.
    is_minority = oof.labels == len(oof.class_names) - 1
    shares = []
    for member in oof.member_names:
        columns = [i for i, column in enumerate(oof.columns) if column.member == member]
        own = _minority_less_mean(scores[None, columns])[0]
        lower = _minority_less_mean(oof.scores[:, columns]) < own
        # A member with K logit columns, or one anomaly score for K classes, contributes to all K logits.
        to_logits = z[columns] @ combination.weights[columns]
        shares.append(
            MemberShare(
                member=member,
                score=float(own),
                contribution=float(_minority_less_mean(to_logits[None])[0]),
                above_majority=float(lower[~is_minority].mean()),
                above_minority=float(lower[is_minority].mean()) if is_minority.any() else None,
            )
        )
    return shares


def _minority_less_mean(values_NC: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """``[N]``: a single column unchanged, else the last column minus the mean of all."""
    return values_NC[:, 0] if values_NC.shape[1] == 1 else values_NC[:, -1] - values_NC.mean(axis=1)
