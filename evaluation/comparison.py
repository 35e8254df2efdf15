"""The results table: every model with intervals, and as a paired difference from the null control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        kind: ``oneclass``, ``supervised``, ``control``, ``baseline`` or ``ensemble``; passed through.
        p_minority: ``[N]`` minority probabilities after the prior shift.
        threshold: this model's own, fixed out of fold; compared as ``p_minority >= threshold``.
    """

    kind: str
    p_minority: Float64Array
    threshold: float


def clopper_pearson(hits: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact binomial interval for a proportion (Clopper & Pearson 1934).

    A bootstrap of 36 hits in 36 gives [1, 1]; this gives [0.90, 1], which is the truth about 36 rows.
    """
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1.0 - tail, hits + 1, trials - hits))
    return low, high


def compare(
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    predictions: Mapping[str, Predictions],
    control: str,
    *,
    seed: int = 0,
    n_replicates: int = N_REPLICATES,
) -> list[dict[str, Any]]:
    """Compute the table's rows, in the order of ``predictions``.

    The same replicates serve all rows, so differences from the control are paired. Intervals are
    the 2.5 % and 97.5 % percentiles of the bootstrap; recall's own interval is Clopper-Pearson's
    where every group is one row (rows independent), since the bootstrap collapses when all are hit.

    Args:
        labels: ``[N]`` 0 or 1 = minority, of held-out rows.
        groups: ``[N]`` group index; rows of one group are drawn together.
        predictions: model name → its predictions on the same rows.
        control: name of the null control among them.
        seed: of the bootstrap.
        n_replicates: of the bootstrap.

    Returns:
        One JSON-able dict a model: ``name``, ``kind``, a value for each of :data:`TABLE_METRICS`,
        ``intervals`` {metric: [low, high]}, ``minus_control`` {metric: [estimate, low, high]}, and
        ``p_values`` {metric: two-sided, of the difference, not corrected for many}.

    Raises:
        ModelError: ``control`` is not among the predictions.
        DataError: a class is missing or probabilities are not probabilities.
    """
    if control not in predictions:
        raise ModelError(
            f"comparison: no predictions of the control '{control}', only of {', '.join(predictions)}."
            f"{nearest_match(control, predictions)} Train the control first."
        )
    p_by_name = {name: np.asarray(row.p_minority, np.float64) for name, row in predictions.items()}
    points = {
        name: point_metrics(labels, p_by_name[name], row.threshold) for name, row in predictions.items()
    }
    evaluators = {
        name: WeightedMetrics(labels, p_by_name[name], row.threshold) for name, row in predictions.items()
    }
    blocks = replicate_weights(labels, groups, n_replicates=n_replicates, seed=seed)
    replicates = _replicates(evaluators, blocks)
    independent_rows = len(np.unique(groups)) == len(labels)

    rows: list[dict[str, Any]] = []
    for name, row in predictions.items():
        intervals = {metric: _percentiles(replicates[name][metric]) for metric in TABLE_METRICS}
        if independent_rows:
            minority = labels == 1
            hits = int((p_by_name[name][minority] >= row.threshold).sum())
            intervals["recall"] = list(clopper_pearson(hits, int(minority.sum())))
        minus_control = {
            metric: [
                points[name][metric] - points[control][metric],
                *_percentiles(replicates[name][metric] - replicates[control][metric]),
            ]
            for metric in TABLE_METRICS
        }
        p_values = {
            metric: bootstrap_p_value(replicates[name][metric] - replicates[control][metric])
            for metric in TABLE_METRICS
        }
        values = {metric: points[name][metric] for metric in TABLE_METRICS}
        rows.append(
            {
                "name": name,
                "kind": row.kind,
                **values,
                "intervals": intervals,
                "minus_control": minus_control,
                "p_values": p_values,
            }
        )
    return rows


def _replicates(
    evaluators: Mapping[str, WeightedMetrics], weight_blocks: Iterator[Float64Array]
) -> dict[str, dict[str, Float64Array]]:
    """Model → metric → ``[B]`` values under the shared replicates."""
    parts: dict[str, list[dict[str, Float64Array]]] = {name: [] for name in evaluators}
    for weights in weight_blocks:
        for name, evaluate in evaluators.items():
            parts[name].append(evaluate(weights))
    return {
        name: {metric: np.concatenate([part[metric] for part in of_name]) for metric in TABLE_METRICS}
        for name, of_name in parts.items()
    }


def _percentiles(values: Float64Array) -> list[float]:
    """The central 95 % of the replicates, [low, high]."""
    tail = 100.0 * (1.0 - CONFIDENCE) / 2.0
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return [float(low), float(high)]
