"""The curves: means over draws with intervals, and what the issue of labels asks of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from benchmarks.few_labels.intervals import interval_of
from benchmarks.label_curve.measure import ALPHAS, ENSEMBLE, MEAN, SUPERVISED

ANOMALY = "best anomaly member"
WAYS = (ENSEMBLE, ANOMALY, SUPERVISED, MEAN)
FIGURES = ("auroc", "average_precision")


@dataclass(frozen=True)
class Curves:
    """All problems' figures.

    Attributes:
        documents: as :func:`benchmarks.label_curve.measure.measured` makes them.
    """

    documents: Sequence[dict[str, Any]]

    @cached_property
    def data_sets(self) -> list[str]:
        """In the order in which they came."""
        return list(dict.fromkeys(document["data_set"] for document in self.documents))

    def counts(self, data_set: str) -> list[int]:
        """Numbers of labels of a set."""
        return sorted({d["n_labels"] for d in self.documents if d["data_set"] == data_set})

    def of(self, data_set: str, n_labels: int) -> list[dict[str, Any]]:
        """The draws of a set with so many labels."""
        mine = (d for d in self.documents if (d["data_set"], d["n_labels"]) == (data_set, n_labels))
        return sorted(mine, key=lambda document: document["draw"])

    @cached_property
    def anomaly_member(self) -> dict[str, str]:
        """Set → the anomaly member with the best mean AUROC on the judged images: an oracle."""
        best = {}
        for data_set in self.data_sets:
            mine = [d for d in self.documents if d["data_set"] == data_set]
            names = set.intersection(*(set(d["anomaly"]) for d in mine))
            best[data_set] = max(
                sorted(names), key=lambda name: float(np.mean([d["anomaly"][name]["auroc"] for d in mine]))
            )
        return best

    def values(self, data_set: str, n_labels: int, way: str, figure: str) -> npt.NDArray[np.float64]:
        """``[D]`` of one way, draw by draw; NaN where it could not be fitted."""
        drawn = self.of(data_set, n_labels)
        if way == ANOMALY:
            member = self.anomaly_member[data_set]
            return np.array([document["anomaly"][member][figure] for document in drawn])
        if n_labels == 0 and way == MEAN:
            way = ENSEMBLE
        return np.array([document[figure].get(way, np.nan) for document in drawn], dtype=np.float64)

    def without_labels(self, figure: str) -> dict[str, float]:
        """Mean over all sets, with no label: the ensemble, then each anomaly member that every set has."""
        mine = [d for d in self.documents if d["n_labels"] == 0 and ENSEMBLE in d[figure]]
        if not mine:
            return {}
        names = set.intersection(*(set(d["anomaly"]) for d in mine))
        members = {name: [d["anomaly"][name][figure] for d in mine] for name in sorted(names)}
        by_way = {ENSEMBLE: [d[figure][ENSEMBLE] for d in mine], **members}
        # Each set counts once, however many draws it has.
        sets = np.array([d["data_set"] for d in mine])
        return {
            way: float(np.mean([np.mean(np.array(values)[sets == name]) for name in np.unique(sets)]))
            for way, values in by_way.items()
        }

    def shortfall(self, data_set: str, n_labels: int, figure: str) -> float:
        """Mean of the ensemble minus that of the better of anomaly member and supervised baseline."""
        others = [
            float(np.mean(values))
            for way in (ANOMALY, SUPERVISED)
            if not np.isnan(values := self.values(data_set, n_labels, way, figure)).any()
        ]
        return float(np.mean(self.values(data_set, n_labels, ENSEMBLE, figure))) - max(others)

    def steps(self, data_set: str, figure: str) -> list[tuple[int, int, float, float]]:
        """(from, to, mean change, its standard error over draws) of the ensemble as labels are added."""
        counts, changes = self.counts(data_set), []
        for few, more in pairwise(counts):
            pairs = _paired(self.of(data_set, few), self.of(data_set, more), figure)
            if len(pairs) > 1:
                error = float(pairs.std(ddof=1) / np.sqrt(len(pairs)))
                changes.append((few, more, float(pairs.mean()), error))
        return changes


def _paired(
    few: Sequence[dict[str, Any]], more: Sequence[dict[str, Any]], figure: str
) -> npt.NDArray[np.float64]:
    """``[D]`` changes of the ensemble, of draws that both numbers of labels have."""
    before = {d["draw"]: d[figure].get(ENSEMBLE) for d in few}
    return np.array(
        [
            d[figure][ENSEMBLE] - before[d["draw"]]
            for d in more
            if ENSEMBLE in d[figure] and before.get(d["draw"]) is not None
        ],
        dtype=np.float64,
    )


@dataclass(frozen=True)
class Validity:
    """p_normal on judged normal images, over problems.

    Attributes:
        alpha: the level.
        problems: that support it, 1 / (n + 1) being no larger.
        share: mean share of normal images with ``p_normal <= alpha``.
        low, high: of its 95 % interval over problems.
        above: problems whose share is above the binomial's 97.5 % quantile at alpha.
    """

    alpha: float
    problems: int
    share: float
    low: float
    high: float
    above: int


def validity_of(documents: Sequence[dict[str, Any]]) -> list[Validity]:
    """Of all problems that have an ensemble."""
    rows = []
    for alpha in ALPHAS:
        mine = [d for d in documents if "p_normal" in d and d["p_normal"]["least"] <= alpha]
        if not mine:
            continue
        shares = np.array([d["p_normal"]["share"][f"{alpha:g}"] for d in mine])
        groups = np.array([d["p_normal"]["groups"] for d in mine])
        # Draws of one set share images, so sets are drawn first.
        interval = interval_of(shares, [d["data_set"] for d in mine])
        above = int((shares * groups > binom.ppf(0.975, groups, alpha)).sum())
        rows.append(Validity(alpha, len(mine), interval.mean, interval.low, interval.high, above))
    return rows


@dataclass(frozen=True)
class Coverage:
    """Cross-validated figures of the ensemble against those on the judged images.

    Attributes:
        n_labels: minority images trained on.
        cases: problems.
        inside: those whose interval holds the figure on the judged images.
        difference: mean of the estimate minus that figure.
        width: mean width of the intervals.
    """

    n_labels: int
    cases: int
    inside: int
    difference: float
    width: float


def coverage_of(documents: Sequence[dict[str, Any]], figure: str) -> list[Coverage]:
    """One row for each number of labels, from problems that have an estimate."""
    rows = []
    for n_labels in sorted({d["n_labels"] for d in documents if "estimate" in d}):
        mine = [d for d in documents if d["n_labels"] == n_labels and "estimate" in d]
        estimate, low, high = np.array([d["estimate"][figure] for d in mine]).T
        truth = np.array([d[figure][ENSEMBLE] for d in mine])
        rows.append(
            Coverage(
                n_labels,
                len(mine),
                int(((low <= truth) & (truth <= high)).sum()),
                float((estimate - truth).mean()),
                float((high - low).mean()),
            )
        )
    return rows
