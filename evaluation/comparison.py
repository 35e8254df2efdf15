"""The results table: every model with intervals, and as a paired difference from the calibrated baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from contracts.errors import ModelError, nearest_match
from contracts.rows import LabelArray
from evaluation.bootstrap import WeightedMetrics, replicate_weights
from evaluation.metrics import METRICS, Float64Array, point_metrics
from evaluation.verdict import bootstrap_p_value

N_REPLICATES = 2000
CONFIDENCE = 0.95
# The columns of the table; the JSON shape that scripts rely on.
TABLE_METRICS = tuple(name for name in METRICS if name != "specificity")


@dataclass(frozen=True)
class Predictions:
    """What one row of the table is computed from.

    Attributes:
        kind: ``oneclass``, ``supervised``, ``baseline``, ``simple_fusion`` or ``ensemble``; passed through.
        p_minority: ``[N]`` minority probabilities after the prior shift.
        threshold: this model's own, fixed out of fold; compared as ``p_minority >= threshold``.
    """

    kind: str
    p_minority: Float64Array
    threshold: float


def clopper_pearson(hits: float, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact binomial interval for a proportion (Clopper & Pearson 1934).

    A bootstrap of 36 hits in 36 gives [1, 1]; this gives [0.90, 1], which is the truth about 36 rows.
    A mean number of hits over repeats need not be whole.
    """
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1.0 - tail, hits + 1, trials - hits))
    return low, high


def compare(
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    predictions: Mapping[str, Predictions],
    baseline: str,
    *,
    seed: int = 0,
    n_replicates: int = N_REPLICATES,
) -> list[dict[str, Any]]:
    """The table of one repeat; see :func:`compare_repeats`."""
    return compare_repeats(labels, groups, [predictions], baseline, seed=seed, n_replicates=n_replicates)


def compare_repeats(
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    repeats: Sequence[Mapping[str, Predictions]],
    baseline: str,
    *,
    seed: int = 0,
    n_replicates: int = N_REPLICATES,
) -> list[dict[str, Any]]:
    """Compute the table's rows, in the order of the predictions.

    With R repeats of the training, a model's figure is the mean of its R figures, and the bootstrap has two
    levels: each replicate draws rows and, independently, R repeats with replacement. Rows and repeats
    are crossed, not nested, as every repeat scores the same test rows. R repeats drawn from R carry
    (R-1)/R of the variance between repeats, so intervals of two or three repeats are somewhat too narrow.

    The same replicates serve all rows, so differences from the baseline are paired. Intervals are
    the 2.5 % and 97.5 % percentiles of the bootstrap; recall's own interval is Clopper-Pearson's
    where every group is one row (rows independent), since the bootstrap collapses when all are hit.
    With several repeats it is the union of the two.

    Args:
        labels: ``[N]`` 0 or 1 = minority, of test rows.
        groups: ``[N]`` group index; rows of one group are drawn together.
        repeats: R times model name → its predictions on the same rows; the same models each time.
        baseline: name of the calibrated baseline among them.
        seed: of the bootstrap.
        n_replicates: of the bootstrap.

    Returns:
        One JSON-able dict a model: ``name``, ``kind``, a value for each of :data:`TABLE_METRICS`,
        ``intervals`` {metric: [low, high]}, ``minus_baseline`` {metric: [estimate, low, high]}, and
        ``p_values`` {metric: two-sided, of the difference, not corrected for many}. With several repeats
        also ``repeats`` {metric: [R values]}.

    Raises:
        ModelError: ``baseline`` is not among the predictions, or the repeats hold different models.
        DataError: a class is missing or probabilities are not probabilities.
    """
    names = list(repeats[0])
    if baseline not in names:
        raise ModelError(
            f"comparison: no predictions of the baseline '{baseline}', only of {', '.join(names)}."
            f"{nearest_match(baseline, names)} Train the baseline first."
        )
    different = next(
        (set(names) ^ set(of_repeat) for of_repeat in repeats if set(of_repeat) != set(names)), None
    )
    if different:
        raise ModelError(
            f"comparison: '{min(different)}' has predictions in some repeats and none in others. "
            "Train every member in every repeat (train-all does), or leave it out."
        )
    measured = {name: [_Measured.of(labels, of_repeat[name]) for of_repeat in repeats] for name in names}
    blocks = replicate_weights(labels, groups, n_replicates=n_replicates, seed=seed)
    replicates = _replicates(measured, blocks, repeat_counts(len(repeats), n_replicates, seed))
    points = {
        name: {metric: _mean([one.points[metric] for one in ones]) for metric in TABLE_METRICS}
        for name, ones in measured.items()
    }
    independent_rows = len(np.unique(groups)) == len(labels)
    n_minority = int((labels == 1).sum())

    rows: list[dict[str, Any]] = []
    for name in names:
        intervals = {metric: _percentiles(replicates[name][metric]) for metric in TABLE_METRICS}
        if independent_rows:
            exact = clopper_pearson(_mean([one.hits for one in measured[name]]), n_minority)
            low, high = exact if len(repeats) == 1 else intervals["recall"]
            intervals["recall"] = [min(low, exact[0]), max(high, exact[1])]
        minus_baseline = {
            metric: [
                points[name][metric] - points[baseline][metric],
                *_percentiles(replicates[name][metric] - replicates[baseline][metric]),
            ]
            for metric in TABLE_METRICS
        }
        p_values = {
            metric: bootstrap_p_value(replicates[name][metric] - replicates[baseline][metric])
            for metric in TABLE_METRICS
        }
        row = {
            "name": name,
            "kind": repeats[0][name].kind,
            **points[name],
            "intervals": intervals,
            "minus_baseline": minus_baseline,
            "p_values": p_values,
        }
        if len(repeats) > 1:
            row["repeats"] = {m: [one.points[m] for one in measured[name]] for m in TABLE_METRICS}
        rows.append(row)
    return rows


@dataclass(frozen=True)
class _Measured:
    """One model in one repeat: its figures, and what gives them under any weighting of the rows."""

    points: dict[str, float]
    evaluate: WeightedMetrics
    hits: int

    @classmethod
    def of(cls, labels: LabelArray, row: Predictions) -> _Measured:
        p = np.asarray(row.p_minority, np.float64)
        points = point_metrics(labels, p, row.threshold)
        hits = int((p[labels == 1] >= row.threshold).sum())
        return cls(points, WeightedMetrics(labels, p, row.threshold), hits)


def repeat_counts(n_repeats: int, n_replicates: int, seed: int) -> Float64Array:
    """``[B, R]`` how often each replicate draws each repeat; rows sum to R.

    Args:
        n_repeats: R.
        n_replicates: B.
        seed: as given to :func:`evaluation.bootstrap.replicate_weights`, whose streams are others.
    """
    rng = np.random.default_rng([seed, 0, 1])
    counts = rng.multinomial(n_repeats, np.full(n_repeats, 1.0 / n_repeats), size=n_replicates)
    return counts.astype(np.float64)


def _replicates(
    measured: Mapping[str, Sequence[_Measured]], weight_blocks: Iterator[Float64Array], counts: Float64Array
) -> dict[str, dict[str, Float64Array]]:
    """Model → metric → ``[B]`` values under the shared replicates, each a mean over the repeats drawn."""
    n_repeats = counts.shape[1]
    parts: dict[str, list[dict[str, Float64Array]]] = {name: [] for name in measured}
    start = 0
    for weights in weight_blocks:
        drawn = counts[start : start + len(weights)]
        start += len(weights)
        for name, ones in measured.items():
            of_repeat = [one.evaluate(weights) for one in ones]
            parts[name].append(
                {
                    metric: sum(drawn[:, r] * of_repeat[r][metric] for r in range(n_repeats)) / n_repeats
                    for metric in TABLE_METRICS
                }
            )
    return {
        name: {metric: np.concatenate([part[metric] for part in of_name]) for metric in TABLE_METRICS}
        for name, of_name in parts.items()
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _percentiles(values: Float64Array) -> list[float]:
    """The central 95 % of the replicates, [low, high]."""
    tail = 100.0 * (1.0 - CONFIDENCE) / 2.0
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return [float(low), float(high)]
