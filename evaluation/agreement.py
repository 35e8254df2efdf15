"""How far two ways of computing the same model agree, on rows that no model saw; and the gate on it.

A faster way (another precision, another runtime) is refused only for a reason that the images show: its AUROC
is worse by more than :data:`MOST_AUROC_LOSS` over the whole interval of the difference, it decides more than
:data:`MOST_DECISIONS_CHANGED` of the images differently, or the runtime misreads the file. A better AUROC is
never a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, spearmanr, t

from contracts.rows import LabelArray
from evaluation.bootstrap import CONFIDENCE

MOST_AUROC_LOSS = 0.002
"""Loss of AUROC that is tolerated; refused is what loses more over the whole interval of the difference."""

MOST_DECISIONS_CHANGED = 0.02
"""Largest share of images that may be decided differently. It is what the gate's 1,000 images can resolve: at
an accuracy of 0.9 their 95 % interval is 1.9 points to either side."""

LEAST_RANK_CORRELATION = 0.8
"""Least rank correlation of a member's scores between two runtimes that read the same file. Runtimes that
round differently keep 0.99 and more; below 0.8, one of them computes something else."""


Numbers = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Outputs:
    """What one way of computing said of N images; K classes, M score columns.

    Attributes:
        probability: ``[N]`` of the minority, ``[N, K]`` for K > 2 classes, 0…1; None where there is none.
        decision: ``[N]`` class indices.
        member_scores: ``[N, M]``, higher = more like the minority.
    """

    probability: Numbers | None
    decision: npt.NDArray[np.integer[Any]]
    member_scores: Numbers


@dataclass(frozen=True)
class Agreement:
    """How a faster way compares with the reference.

    Attributes:
        images: N.
        auroc: of the faster way; macro one-vs-rest for K > 2 classes. None where there is no probability, or
            a class has no image; decisions and ranks alone are then judged.
        auroc_change: the same minus the reference's; None with it.
        auroc_change_interval: its 95 % interval, [low, high], paired; None with it.
        max_probability_difference: over images (and classes); None where there is no probability.
        decisions_changed: images that are decided differently.
        rank_correlation: score column → Spearman's rho with the reference's, -1…1; NaN for a constant one.
        rank_correlation_of_runtimes: score column → the same with the reference runtime's reading of the
            same file; empty where that is the reference, or was not asked for.
    """

    images: int
    auroc: float | None
    auroc_change: float | None
    auroc_change_interval: tuple[float, float] | None
    max_probability_difference: float | None
    decisions_changed: int
    rank_correlation: dict[str, float]
    rank_correlation_of_runtimes: dict[str, float] = field(default_factory=dict)

    @property
    def refusals(self) -> list[str]:
        """Why the gate refuses, one clause per reason; empty where it does not."""
        if self.max_probability_difference is not None and not np.isfinite(self.max_probability_difference):
            return ["some of its probabilities are not finite"]
        reasons = []
        if (
            self.auroc is not None
            and self.auroc_change is not None
            and self.auroc_change_interval is not None
        ):
            low, high = self.auroc_change_interval
            if high < -MOST_AUROC_LOSS:
                reasons.append(
                    f"the AUROC falls by {-self.auroc_change:.4f} to {self.auroc:.4f}, shown to be more than "
                    f"the tolerated {MOST_AUROC_LOSS:g} (95 % interval of the change {low:+.4f} to "
                    f"{high:+.4f})"
                )
        if self.decisions_changed > MOST_DECISIONS_CHANGED * self.images:
            reasons.append(
                f"{self.decisions_changed} of {self.images} decisions change, more than the tolerated "
                f"{MOST_DECISIONS_CHANGED:.0%}"
            )
        # Written so that NaN, a member that has become constant, is a misreading.
        misread = {
            name: rho
            for name, rho in self.rank_correlation_of_runtimes.items()
            if not rho >= LEAST_RANK_CORRELATION
        }
        if misread:
            reasons.append(
                "this runtime ranks images differently from ONNX Runtime on the same file (rank correlation "
                + ", ".join(f"{name} {rho:.2f}" for name, rho in misread.items())
                + f"; at least {LEAST_RANK_CORRELATION:g} is required)"
            )
        return reasons

    @property
    def accepted(self) -> bool:
        """True where there is no reason to refuse."""
        return not self.refusals

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON facts, with the limits, the verdict and its reasons."""
        return {
            **asdict(self),
            "auroc_change_interval": list(self.auroc_change_interval) if self.auroc_change_interval else None,
            "decisions_changed_share": self.decisions_changed / self.images,
            "limits": {
                "auroc_loss": MOST_AUROC_LOSS,
                "decisions_changed_share": MOST_DECISIONS_CHANGED,
                "rank_correlation_of_runtimes": LEAST_RANK_CORRELATION,
            },
            "accepted": self.accepted,
            "refusals": self.refusals,
        }


def agreement(
    labels: LabelArray,
    reference: Outputs,
    other: Outputs,
    columns: Sequence[str],
    same_file: Outputs | None = None,
) -> Agreement:
    """Compare two ways of computing on the same images.

    Args:
        labels: ``[N]`` true classes, minority last.
        reference: what the slow way said.
        other: what the fast way said.
        columns: M names of the score columns.
        same_file: what the reference runtime said of the file that ``other`` was computed from, where that
            is neither ``reference`` nor ``other``.

    Returns:
        The figures; a NaN anywhere in ``other`` makes its figure NaN, and the gate refuses.
    """
    auroc, change, interval, difference = None, None, None, None
    if reference.probability is not None and other.probability is not None:
        difference = float(np.abs(other.probability - reference.probability).max())
        n_classes = 2 if other.probability.ndim == 1 else other.probability.shape[1]
        if np.bincount(labels, minlength=n_classes).all():
            auroc, change, interval = _auroc_change(labels, reference.probability, other.probability)
    return Agreement(
        images=len(labels),
        auroc=auroc,
        auroc_change=change,
        auroc_change_interval=interval,
        max_probability_difference=difference,
        decisions_changed=int((other.decision != reference.decision).sum()),
        rank_correlation=_rank_correlations(reference, other, columns),
        rank_correlation_of_runtimes=(
            {} if same_file is None else _rank_correlations(same_file, other, columns)
        ),
    )


def _rank_correlations(one: Outputs, two: Outputs, columns: Sequence[str]) -> dict[str, float]:
    return {
        name: _spearman(one.member_scores[:, index], two.member_scores[:, index])
        for index, name in enumerate(columns)
    }


def _auroc_change(
    labels: LabelArray, reference: Numbers, other: Numbers
) -> tuple[float, float, tuple[float, float]]:
    """The other's AUROC, its difference from the reference's, and the interval of the difference.

    DeLong et al. (1988) for correlated curves, written as a sum over images so that it covers the mean over K
    classes, too. Student's t with one degree of freedom fewer than the rarest class has images takes the
    place of the normal distribution: with three positives the normal interval is far too narrow.
    """
    nan = float("nan")
    if not np.isfinite(other).all():
        return nan, nan, (nan, nan)
    before, influence_before = _auroc_and_influence(labels, reference.astype(np.float64))
    after, influence_after = _auroc_and_influence(labels, other.astype(np.float64))
    change = after - before
    rarest = int(np.bincount(labels).min())
    if rarest < 2:
        # One image of a class says nothing about its spread, so no loss can be shown.
        return after, change, (-1.0, 1.0)
    deviation = float(np.sqrt(np.sum((influence_after - influence_before) ** 2)))
    half = float(t.ppf(0.5 + CONFIDENCE / 2.0, rarest - 1)) * deviation
    return after, change, (max(-1.0, change - half), min(1.0, change + half))


def _auroc_and_influence(labels: LabelArray, p: Numbers) -> tuple[float, Numbers]:
    """AUROC, and ``[N]`` how much each image moves it; the variance is the sum of the squares.

    For K > 2 classes, the mean over the classes, each against the rest.
    """
    if p.ndim == 1:
        return _one_against_rest(labels == 1, p)
    each = [_one_against_rest(labels == label, p[:, label]) for label in range(p.shape[1])]
    return float(np.mean([auroc for auroc, _ in each])), np.mean([moves for _, moves in each], axis=0)


def _one_against_rest(positive: npt.NDArray[np.bool_], p: Numbers) -> tuple[float, Numbers]:
    ranks = rankdata(p)  # ties get the mean of their ranks, which counts them half
    placement = np.empty(len(p))
    n_of = {True: int(positive.sum()), False: int((~positive).sum())}
    for side in (True, False):
        mine = positive == side
        # Share of the other side's images that this one outranks.
        placement[mine] = (ranks[mine] - rankdata(p[mine])) / n_of[not side]
    placement[~positive] = 1.0 - placement[~positive]
    auroc = float(placement[positive].mean())
    influence = placement - auroc
    for side in (True, False):
        n = n_of[side]
        # n - 1 as in a sample's variance.
        influence[positive == side] /= np.sqrt(n * max(1, n - 1))
    return auroc, influence


def _spearman(one: Numbers, two: Numbers) -> float:
    if np.ptp(one) == 0.0 or np.ptp(two) == 0.0 or not np.isfinite(two).all():
        return float("nan")
    return float(spearmanr(one, two).statistic)
