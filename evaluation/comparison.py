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
from evaluation.bootstrap import CONFIDENCE, central_interval, replicate_weights
from evaluation.metrics import metrics_for
from evaluation.rows import Float64Array, Rows
from evaluation.small_samples import auroc_interval, average_precision_interval
from evaluation.sums import WEIGHTS_PER_BLOCK, Sums, WeightedRows
from evaluation.verdict import bootstrap_p_value

N_REPLICATES = 2000
FEWEST_TWO_SIDED = 3
"""Independent minority images from which on a cross-validated ranking figure has an upper end below 1."""

# Key of the class recalls among the values of a model; no metric has this name.
_RECALLS = "recall of each class"


@dataclass(frozen=True)
class Predictions:
    """What one row of the table is computed from.

    Attributes:
        kind: ``oneclass``, ``supervised``, ``baseline``, ``simple_fusion``, ``ensemble`` or ``student``;
            passed through.
        p: ``[N, K]`` class probabilities after the prior shift, minority last.
        decision: ``[N]`` class index by the model's own rule, fixed out of fold.
    """

    kind: str
    p: Float64Array
    decision: LabelArray


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
    repeats: Sequence[Mapping[str, Predictions]],
    baseline: str,
    class_names: Sequence[str],
    *,
    seed: int = 0,
    n_replicates: int = N_REPLICATES,
    cross_validated: bool = False,
) -> list[dict[str, Any]]:
    """Compute the table's rows, in the order of the predictions.

    With R repeats of the training, a model's figure is the mean of its R figures, and the bootstrap has two
    levels: each replicate draws rows and, independently, R repeats with replacement. Rows and repeats
    are crossed, not nested, as every repeat scores the same test rows. R repeats drawn from R carry
    (R-1)/R of the variance between repeats, so intervals of two or three repeats are somewhat too narrow.

    The same replicates serve all rows, so differences from the baseline are paired. Intervals are the
    2.5 % and 97.5 % percentiles of the bootstrap. A recall's own interval is Clopper-Pearson's where every
    group is one row (rows are independent), since the bootstrap collapses when all or none are hit. With
    several repeats it is the union of the two.

    Cross-validated figures stand on as few minority images as there are labels. A bootstrap of a handful
    draws the same images again and again, so the minority's AUROC and average precision get the union of its
    interval and of one for small samples (:mod:`evaluation.small_samples`), which counts groups, not images.
    Below :data:`FEWEST_TWO_SIDED` independent minority images these two have a lower end only.

    Args:
        labels: ``[N]`` class index of test rows, minority last.
        groups: ``[N]`` group index; rows of one group are drawn together.
        repeats: R times model name → its predictions on the same rows; the same models each time.
        baseline: name of the calibrated baseline among them.
        class_names: K names.
        seed: of the bootstrap.
        n_replicates: of the bootstrap.
        cross_validated: the rows are training rows, each predicted by models fitted without its fold.

    Returns:
        One JSON-able dict per model: ``name``, ``kind``, a value for each metric of
        :func:`evaluation.metrics.metrics_for`, ``intervals`` {metric: [low, high]}, ``minus_baseline``
        {metric: [estimate, low, high]}, and ``p_values`` {metric: two-sided, of the difference, not corrected
        for many comparisons}. With several repeats also ``repeats`` {metric: [R values]}. For K > 2 also
        ``per_class_recall`` {class: [value, low, high]} and ``per_class_recall_minus_baseline``
        {class: [estimate, low, high]}; of two classes, ``recall`` is the minority's.

    Raises:
        ModelError: ``baseline`` is not among the predictions, or the repeats hold different models.
        DataError: a class is missing, or probabilities are not probabilities.
    """
    _check_models(repeats, baseline)
    measured = {
        name: [WeightedRows(Rows.checked(labels, each[name].p, each[name].decision)) for each in repeats]
        for name in repeats[0]
    }
    blocks = replicate_weights(
        labels, groups, n_replicates=n_replicates, seed=seed, weights_per_block=WEIGHTS_PER_BLOCK
    )
    replicates = _replicates(measured, blocks, repeat_counts(len(repeats), n_replicates, seed))
    figures = {
        name: _Figures(ones, [_values(WeightedRows.once(one.rows)) for one in ones], replicates[name])
        for name, ones in measured.items()
    }
    # Clopper-Pearson assumes independent rows; with groups of several images it would be too narrow.
    rows_are_independent = len(np.unique(groups)) == len(labels)
    sizes = _independent_rows(labels, groups) if cross_validated else None
    return [
        {
            "name": name,
            "kind": repeats[0][name].kind,
            **_row(of_name, figures[baseline], class_names, rows_are_independent, sizes),
        }
        for name, of_name in figures.items()
    ]


def _independent_rows(labels: LabelArray, groups: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Number of groups with images of the minority, and of groups with images of other classes."""
    is_minority = labels == labels.max()
    return len(np.unique(groups[is_minority])), len(np.unique(groups[~is_minority]))


@dataclass(frozen=True)
class _Figures:
    """One model's values: metric (or class recalls) → array, replicates in the last axis.

    Attributes:
        ones: the model's rows in each of R repeats.
        of_repeat: R times its values on the rows as they are; B = 1.
        drawn: its values in each bootstrap replicate, a mean over the repeats that the replicate drew.
    """

    ones: Sequence[WeightedRows]
    of_repeat: Sequence[dict[str, Float64Array]]
    drawn: dict[str, Float64Array]

    def mean(self, metric: str) -> Float64Array:
        """Over the repeats: ``[]``, or ``[K]`` of class recalls."""
        values = [each[metric][..., 0] for each in self.of_repeat]
        total: Float64Array = sum(values[1:], start=values[0])
        return total / len(values)

    def recall_intervals(self, rows_are_independent: bool) -> list[list[float]]:
        """``[low, high]`` of each class's recall."""
        bootstrap = [_percentiles(of_class) for of_class in self.drawn[_RECALLS]]
        if not rows_are_independent:
            return bootstrap
        intervals = []
        for label, (low, high) in enumerate(bootstrap):
            of_class = [one.rows.decision[one.rows.labels == label] == label for one in self.ones]
            hits = sum(int(each.sum()) for each in of_class) / len(of_class)
            # hits is a mean over repeats; the beta distribution takes fractional counts.
            exact_low, exact_high = clopper_pearson(hits, len(of_class[0]))
            # One training: the exact interval is the whole truth. Of several, only the bootstrap knows how
            # much they differ, and it collapses where all of them found every row.
            one_training = len(self.ones) == 1
            intervals.append(
                [exact_low, exact_high] if one_training else [min(low, exact_low), max(high, exact_high)]
            )
        return intervals


# The minority's ranking figures, by the names that they have for two classes and for more.
_AUROC, _PRECISIONS = "auroc", ("average_precision", "minority_average_precision")


def _widened(
    intervals: dict[str, list[float]], own: _Figures, n_minority: int, n_majority: int
) -> dict[str, list[float]]:
    """Intervals of the minority's ranking figures, joined with those for small samples."""
    small = {}
    if _AUROC in intervals:
        small[_AUROC] = auroc_interval(float(own.mean(_AUROC)), n_minority, n_majority)
    for name in _PRECISIONS:
        if name in intervals:
            small[name] = average_precision_interval(float(own.mean(name)), n_minority)
    if n_minority < FEWEST_TWO_SIDED:
        # What was judged had learnt from one minority image fewer: from none, or from half of them. How much
        # better the model is that has learnt from all of them, no figure here can bound.
        small = {name: (low, 1.0) for name, (low, _) in small.items()}
    return {
        name: [min(low, small[name][0]), max(high, small[name][1])] if name in small else [low, high]
        for name, (low, high) in intervals.items()
    }


def _row(
    own: _Figures,
    baseline: _Figures,
    class_names: Sequence[str],
    rows_are_independent: bool,
    sizes: tuple[int, int] | None,
) -> dict[str, Any]:
    """A row of the table, without name and kind; ``sizes`` as of :func:`_independent_rows`, or None."""
    metrics = metrics_for(len(class_names))
    recall_intervals = own.recall_intervals(rows_are_independent)
    intervals = {metric: _percentiles(own.drawn[metric]) for metric in metrics}
    if "recall" in intervals:
        intervals["recall"] = recall_intervals[-1]
    if sizes is not None:
        intervals = _widened(intervals, own, *sizes)
    # Differences within each replicate, so that what makes a replicate easy for both models cancels.
    drawn_change = {metric: drawn - baseline.drawn[metric] for metric, drawn in own.drawn.items()}
    row: dict[str, Any] = {
        **{metric: float(own.mean(metric)) for metric in metrics},
        "intervals": intervals,
        "minus_baseline": {
            metric: [
                float(own.mean(metric) - baseline.mean(metric)),
                *_percentiles(drawn_change[metric]),
            ]
            for metric in metrics
        },
        "p_values": {metric: bootstrap_p_value(drawn_change[metric]) for metric in metrics},
    }
    if len(own.ones) > 1:
        row["repeats"] = {metric: [float(each[metric][0]) for each in own.of_repeat] for metric in metrics}
    if len(class_names) > 2:
        recalls, of_baseline = own.mean(_RECALLS), baseline.mean(_RECALLS)
        row["per_class_recall"] = {
            name: [float(recalls[k]), *recall_intervals[k]] for k, name in enumerate(class_names)
        }
        row["per_class_recall_minus_baseline"] = {
            name: [float(recalls[k] - of_baseline[k]), *_percentiles(drawn_change[_RECALLS][k])]
            for k, name in enumerate(class_names)
        }
    return row


def _check_models(repeats: Sequence[Mapping[str, Predictions]], baseline: str) -> None:
    names = list(repeats[0])
    if baseline not in names:
        raise ModelError(
            f"comparison: no predictions of the baseline '{baseline}', only of {', '.join(names)}."
            f"{nearest_match(baseline, names)} Train the baseline first."
        )
    different = next((set(names) ^ set(each) for each in repeats if set(each) != set(names)), None)
    if different:
        raise ModelError(
            f"comparison: '{min(different)}' has predictions in some repeats and none in others. "
            "Train every member in every repeat (train-all does), or leave it out."
        )


def repeat_counts(n_repeats: int, n_replicates: int, seed: int) -> Float64Array:
    """``[B, R]`` how often each replicate draws each repeat; rows sum to R.

    Args:
        n_repeats: R.
        n_replicates: B.
        seed: as given to :func:`evaluation.bootstrap.replicate_weights`, whose streams are others.
    """
    # Three numbers where the streams of the strata have two, so that no stream is used twice.
    rng = np.random.default_rng([seed, 0, 1])
    # Drawing R repeats with replacement is a multinomial over the repeats.
    counts = rng.multinomial(n_repeats, np.full(n_repeats, 1.0 / n_repeats), size=n_replicates)
    return counts.astype(np.float64)


def _replicates(
    measured: Mapping[str, Sequence[WeightedRows]], blocks: Iterator[Float64Array], counts_BR: Float64Array
) -> dict[str, dict[str, Float64Array]]:
    """Model → metric → ``[B]`` values under the shared replicates, each a mean over the repeats drawn."""
    n_repeats = counts_BR.shape[1]
    parts: dict[str, list[dict[str, Float64Array]]] = {name: [] for name in measured}
    start = 0
    for weights in blocks:
        drawn = counts_BR[start : start + len(weights)]
        start += len(weights)
        weights_NB = np.ascontiguousarray(weights.T)  # rows of B numbers, which a sparse matrix adds up fast
        for name, ones in measured.items():
            of_repeat = [_values(one(weights_NB)) for one in ones]
            parts[name].append(
                {
                    metric: sum(drawn[:, r] * of_repeat[r][metric] for r in range(n_repeats)) / n_repeats
                    for metric in of_repeat[0]
                }
            )
    return {
        name: {metric: np.concatenate([part[metric] for part in of_name], axis=-1) for metric in of_name[0]}
        for name, of_name in parts.items()
    }


def _values(sums: Sums) -> dict[str, Float64Array]:
    """Metric → ``[B]`` values, and the ``[K, B]`` class recalls."""
    values = {name: metric.compute(sums) for name, metric in metrics_for(sums.n_classes).items()}
    return {**values, _RECALLS: sums.recalls}


def _percentiles(values: Float64Array) -> list[float]:
    """The central 95 % of the replicates, [low, high]."""
    low, high = central_interval(values)
    return [float(low), float(high)]
