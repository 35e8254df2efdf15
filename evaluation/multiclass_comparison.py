"""The results table of K > 2 classes; rows of the same shape as :mod:`evaluation.comparison` gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError, nearest_match
from contracts.rows import LabelArray
from evaluation.bootstrap import replicate_weights
from evaluation.comparison import CONFIDENCE, N_REPLICATES, clopper_pearson, repeat_counts
from evaluation.metrics import Float64Array
from evaluation.multiclass import MULTICLASS_METRICS, class_recalls, multiclass_metrics
from evaluation.multiclass_bootstrap import WeightedMulticlassMetrics, evaluate_blocks
from evaluation.verdict import bootstrap_p_value

# 52 replicates of 10,000 rows: the sums of a block then stay near the processor, which is faster than
# more replicates at once.
WEIGHTS_PER_BLOCK = 2**19


@dataclass(frozen=True)
class MulticlassPredictions:
    """What one row of the table is computed from.

    Attributes:
        kind: ``oneclass``, ``supervised``, ``baseline``, ``simple_fusion`` or ``ensemble``; passed through.
        p: ``[N, K]`` class probabilities after the prior shift.
        decision: ``[N]`` class index by the model's own rule, fixed out of fold.
    """

    kind: str
    p: Float64Array
    decision: LabelArray


def compare_multiclass(
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    predictions: Mapping[str, MulticlassPredictions],
    baseline: str,
    class_names: tuple[str, ...],
    *,
    seed: int = 0,
    n_replicates: int = N_REPLICATES,
) -> list[dict[str, Any]]:
    """The table of one repeat; see :func:`compare_multiclass_repeats`."""
    return compare_multiclass_repeats(
        labels, groups, [predictions], baseline, class_names, seed=seed, n_replicates=n_replicates
    )


def compare_multiclass_repeats(
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    repeats: Sequence[Mapping[str, MulticlassPredictions]],
    baseline: str,
    class_names: tuple[str, ...],
    *,
    seed: int = 0,
    n_replicates: int = N_REPLICATES,
) -> list[dict[str, Any]]:
    """Compute the table's rows, in the order of the predictions.

    With R repeats of the training, figures are means over them and the bootstrap has two levels, rows and
    repeats, as in :func:`evaluation.comparison.compare_repeats`.

    The same replicates serve all rows, so differences from the baseline are paired. Intervals are the
    2.5 % and 97.5 % percentiles of the bootstrap; a class recall's own interval is Clopper-Pearson's
    where every group is one row, since the bootstrap collapses when all or none are hit.

    Args:
        labels: ``[N]`` class index of test rows, minority last.
        groups: ``[N]`` group index; rows of one group are drawn together.
        repeats: R times model name → its predictions on the same rows; the same models each time.
        baseline: name of the calibrated baseline among them.
        class_names: K names.
        seed: of the bootstrap.
        n_replicates: of the bootstrap.

    Returns:
        One JSON-able dict a model: ``name``, ``kind``, a value for each of
        :data:`evaluation.multiclass.MULTICLASS_METRICS`, ``intervals`` {metric: [low, high]},
        ``minus_baseline`` {metric: [estimate, low, high]}, ``p_values`` {metric: two-sided, of the
        difference, not corrected for many}, ``per_class_recall`` {class: [value, low, high]} and
        ``per_class_recall_minus_baseline`` {class: [estimate, low, high]}.

    Raises:
        ModelError: ``baseline`` is not among the predictions.
        DataError: a class is missing or probabilities are not probabilities.
    """
    names = list(repeats[0])
    if baseline not in names:
        raise ModelError(
            f"comparison: no predictions of the baseline '{baseline}', only of {', '.join(names)}."
            f"{nearest_match(baseline, names)} Train the baseline first."
        )
    ones = [(name, r, of_repeat[name]) for r, of_repeat in enumerate(repeats) for name in names]
    by_repeat, recalls_by_repeat = evaluate_blocks(
        {
            f"{r}|{name}": WeightedMulticlassMetrics(labels, np.asarray(row.p, np.float64), row.decision)
            for name, r, row in ones
        },
        replicate_weights(
            labels, groups, n_replicates=n_replicates, seed=seed, weights_per_block=WEIGHTS_PER_BLOCK
        ),
    )
    drawn = repeat_counts(len(repeats), n_replicates, seed) / len(repeats)
    values = {
        name: {
            metric: _drawn_mean(drawn, [by_repeat[f"{r}|{name}"][metric] for r in range(len(repeats))])
            for metric in MULTICLASS_METRICS
        }
        for name in names
    }
    recall_values = {
        name: _drawn_mean(drawn, [recalls_by_repeat[f"{r}|{name}"] for r in range(len(repeats))])
        for name in names
    }
    points = {
        name: _mean_of(
            [
                multiclass_metrics(labels, np.asarray(each[name].p, np.float64), each[name].decision)
                for each in repeats
            ]
        )
        for name in names
    }
    recalls = {
        name: np.mean(
            [class_recalls(labels, each[name].decision, len(class_names)) for each in repeats], axis=0
        )
        for name in names
    }
    counts = np.bincount(labels, minlength=len(class_names))
    independent_rows = len(np.unique(groups)) == len(labels)

    rows: list[dict[str, Any]] = []
    for name in names:
        mine, theirs = values[name], values[baseline]
        recall_intervals = [_percentiles(of_class) for of_class in recall_values[name]]
        if independent_rows and len(repeats) == 1:
            decision = repeats[0][name].decision
            hits = np.bincount(labels[decision == labels], minlength=len(class_names))
            recall_intervals = [
                list(clopper_pearson(int(h), int(n))) for h, n in zip(hits, counts, strict=True)
            ]
        rows.append(
            {
                "name": name,
                "kind": repeats[0][name].kind,
                **points[name],
                "intervals": {metric: _percentiles(mine[metric]) for metric in MULTICLASS_METRICS},
                "minus_baseline": {
                    metric: [
                        points[name][metric] - points[baseline][metric],
                        *_percentiles(mine[metric] - theirs[metric]),
                    ]
                    for metric in MULTICLASS_METRICS
                },
                "p_values": {
                    metric: bootstrap_p_value(mine[metric] - theirs[metric]) for metric in MULTICLASS_METRICS
                },
                "per_class_recall": {
                    class_name: [float(recalls[name][k]), *recall_intervals[k]]
                    for k, class_name in enumerate(class_names)
                },
                "per_class_recall_minus_baseline": {
                    class_name: [
                        float(recalls[name][k] - recalls[baseline][k]),
                        *_percentiles(recall_values[name][k] - recall_values[baseline][k]),
                    ]
                    for k, class_name in enumerate(class_names)
                },
            }
        )
    return rows


def _drawn_mean(shares: Float64Array, values: Sequence[Float64Array]) -> Float64Array:
    """``[..., B]`` mean over the repeats that each replicate draws, ``shares`` ``[B, R]`` of them."""
    mean: Float64Array = np.sum([shares[:, r] * each for r, each in enumerate(values)], axis=0)
    return mean


def _mean_of(points: Sequence[dict[str, float]]) -> dict[str, float]:
    return {metric: sum(each[metric] for each in points) / len(points) for metric in points[0]}


def _percentiles(values: Float64Array) -> list[float]:
    """The central 95 % of the replicates, [low, high]."""
    tail = 100.0 * (1.0 - CONFIDENCE) / 2.0
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return [float(low), float(high)]
