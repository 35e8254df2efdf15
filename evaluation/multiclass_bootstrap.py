"""All metrics of K-class probabilities under many row weightings at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from contracts.rows import LabelArray
from evaluation.metrics import Float64Array
from evaluation.multiclass import MULTICLASS_METRICS, row_brier, row_log_loss, top_label_gap


class WeightedMulticlassMetrics:
    """The metrics of one (p, decision), ready for any number of replicates.

    Whatever a metric needs of a replicate is a sum of row weights: of a cell of the confusion matrix, of
    an ECE bin, of the rows between two scores of a class. All these sums are one sparse matrix times the
    weights, so a block of replicates costs a pass over K + 4 numbers a row, with no sort. ECE keeps the
    bins of the whole sample in every replicate.

    Args:
        labels: ``[N]`` class index, every class present.
        p: ``[N, K]`` probabilities.
        decision: ``[N]`` decided class index.
    """

    def __init__(self, labels: LabelArray, p: Float64Array, decision: LabelArray) -> None:
        n_rows, self._n_classes = p.shape
        every_row = np.arange(n_rows)
        gap, bins, self._n_bins = top_label_gap(labels, p)
        k = self._n_classes
        sums = _SumsOfWeights(n_rows)
        sums.add(labels * k + decision, every_row, k * k)
        sums.add(np.zeros(n_rows, np.int64), every_row, 1, row_log_loss(labels, p))
        sums.add(np.zeros(n_rows, np.int64), every_row, 1, row_brier(labels, p))
        sums.add(bins, every_row, self._n_bins, gap)
        # Per class: sums of its own rows at each of their distinct scores ("levels"), and of the others'
        # in 2 L + 1 slots: below the lowest level, at it, between it and the next, at that, …
        self._n_levels: list[int] = []
        for label in range(k):
            own, others = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
            levels, level_of_own = np.unique(p[own, label], return_inverse=True)
            slot = np.searchsorted(levels, p[others, label], side="left") + np.searchsorted(
                levels, p[others, label], side="right"
            )
            self._n_levels.append(len(levels))
            sums.add(level_of_own, own, len(levels))
            sums.add(slot, others, 2 * len(levels) + 1)
        self._sums = sums.matrix()

    def __call__(self, weights_NB: Float64Array) -> tuple[dict[str, Float64Array], Float64Array]:
        """Compute every metric for B replicates.

        Args:
            weights_NB: ``[N, B]`` non-negative row weights; each class needs weight in every replicate.

        Returns:
            Each metric of :data:`evaluation.multiclass.MULTICLASS_METRICS` as ``[B]`` values, and ``[K, B]``
            class recalls.
        """
        parts = _Parts(self._sums @ weights_NB)
        k = self._n_classes
        confusion = parts.take(k * k).reshape(k, k, -1)  # [true, decided, B]
        log_loss, brier = parts.take(1)[0], parts.take(1)[0]
        gaps = np.abs(parts.take(self._n_bins)).sum(axis=0)
        ranking = [_auroc_and_ap(parts.take(n), parts.take(2 * n + 1)) for n in self._n_levels]

        of_class, decided = confusion.sum(axis=1), confusion.sum(axis=0)  # [K, B]
        hits = np.einsum("kkb->kb", confusion)
        total = of_class.sum(axis=0)
        recalls = hits / of_class
        specificities = 1.0 - (decided - hits) / (total - of_class)
        values = {
            "acsa": recalls.mean(axis=0),
            "g_mean_product": np.prod(recalls, axis=0) ** (1.0 / k),
            "g_mean_macro": np.sqrt(recalls.mean(axis=0) * specificities.mean(axis=0)),
            "macro_f1": (2.0 * hits / (of_class + decided)).mean(axis=0),
            "macro_auroc": np.mean([auroc for auroc, _ in ranking], axis=0),
            "macro_average_precision": np.mean([precision for _, precision in ranking], axis=0),
            "accuracy": hits.sum(axis=0) / total,
            "log_loss": log_loss / total,
            "brier": brier / total,
            "ece": gaps / total,
        }
        return {name: values[name] for name in MULTICLASS_METRICS}, recalls


def evaluate_blocks(
    evaluators: dict[str, WeightedMulticlassMetrics], blocks: Iterator[Float64Array]
) -> tuple[dict[str, dict[str, Float64Array]], dict[str, Float64Array]]:
    """Evaluate every model under the same replicates.

    Args:
        evaluators: model → its metrics.
        blocks: ``[b, N]`` weights, from :func:`evaluation.bootstrap.replicate_weights`.

    Returns:
        Model → metric → ``[B]`` values, and model → ``[K, B]`` class recalls.
    """
    values: dict[str, list[dict[str, Float64Array]]] = {name: [] for name in evaluators}
    recalls: dict[str, list[Float64Array]] = {name: [] for name in evaluators}
    for block in blocks:
        weights_NB = np.ascontiguousarray(block.T)  # rows of B numbers, which a sparse matrix adds up fast
        for name, evaluate in evaluators.items():
            of_block, recalls_of_block = evaluate(weights_NB)
            values[name].append(of_block)
            recalls[name].append(recalls_of_block)
    return (
        {
            name: {metric: np.concatenate([part[metric] for part in parts]) for metric in MULTICLASS_METRICS}
            for name, parts in values.items()
        },
        {name: np.concatenate(parts, axis=1) for name, parts in recalls.items()},
    )


class _SumsOfWeights:
    """Collects named-by-position sums of (weight * value) into one sparse matrix ``[sums, N]``."""

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows
        self._n_sums = 0
        self._parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Float64Array]] = []

    def add(
        self,
        sum_of_entry: npt.NDArray[np.int64],
        row_of_entry: npt.NDArray[np.int64],
        n_sums: int,
        values: Float64Array | None = None,
    ) -> None:
        """Append ``n_sums`` sums; entry i adds ``values[i]`` (1) times its row's weight to its sum."""
        entries = np.ones(len(row_of_entry)) if values is None else values
        self._parts.append((sum_of_entry + self._n_sums, row_of_entry, entries))
        self._n_sums += n_sums

    def matrix(self) -> csr_array:
        """The matrix of all sums in the order they were added."""
        sums, rows, values = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        return csr_array((values, (sums, rows)), shape=(self._n_sums, self._n_rows))


class _Parts:
    """The product's rows, taken off in the order in which their sums were added."""

    def __init__(self, sums: Float64Array) -> None:
        self._sums = sums
        self._next = 0

    def take(self, count: int) -> Float64Array:
        """The next ``count`` rows, ``[count, B]``."""
        taken = self._sums[self._next : self._next + count]
        self._next += count
        return taken


def _auroc_and_ap(own: Float64Array, others: Float64Array) -> tuple[Float64Array, Float64Array]:
    """``[B]`` AUROC and average precision of one class against the rest.

    Args:
        own: ``[L, B]`` weight of the class's rows at each level, ascending.
        others: ``[2 L + 1, B]`` weight of the other rows in each slot.
    """
    up_to_slot = np.cumsum(others, axis=0)
    below, not_above = up_to_slot[0:-1:2], up_to_slot[1::2]
    total_own, total_others = own.sum(axis=0), up_to_slot[-1]
    beaten = (own * (below + not_above)).sum(axis=0) / 2.0
    # Precision of "at or above this level", averaged over the class's rows, as scikit-learn sums it.
    found = total_own - np.cumsum(own, axis=0) + own
    flagged = found + total_others - below
    precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
    return beaten / (total_own * total_others), (own * precision).sum(axis=0) / total_own
