"""Which member said what: how an image's logit is put together, and where its scores lie among others'."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contracts.rows import FloatArray
from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble


@dataclass(frozen=True)
class MemberShare:
    """One member's part in an image's probability.

    Attributes:
        member: its name.
        score: raw, in the member's own unit; the minority's logit where it gives one for each class.
        contribution: what the score adds to the combination's log-odds of the minority (to its logit, for
            K > 2), compared with a score that is average among the out-of-fold rows.
        above_majority: share of the majority's out-of-fold rows that score lower, 0…1.
        above_minority: the same of the minority's.
    """

    member: str
    score: float
    contribution: float
    above_majority: float
    above_minority: float


def member_shares(fitted: FittedEnsemble, oof: ScoreTable, scores: FloatArray) -> list[MemberShare]:
    """Take an image's logit apart, member by member.

    A combination is a weighted sum of standardised scores and an intercept, so contributions are exact:
    with the intercept they sum to the logit that the calibrator then reads. Calibrator and prior shift
    turn that into a probability; both are monotone.

    Args:
        fitted: the ensemble.
        oof: what it was fitted on.
        scores: ``[M]`` of one image.

    Returns:
        A share a member, in column order.
    """
    combination = fitted.combination
    # The minority is the last class; two classes have one column of weights, that of its log-odds.
    terms = combination.transform(scores[None])[0] * combination.weights[:, -1]
    is_minority = oof.labels == len(oof.class_names) - 1
    shares = []
    for member in oof.member_names:
        columns = [i for i, column in enumerate(oof.columns) if column.member == member]
        shown = columns[-1]
        lower = oof.scores[:, shown] < scores[shown]
        shares.append(
            MemberShare(
                member=member,
                score=float(scores[shown]),
                contribution=float(np.sum(terms[columns])),
                above_majority=float(lower[~is_minority].mean()),
                above_minority=float(lower[is_minority].mean()),
            )
        )
    return shares
