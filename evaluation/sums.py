"""The sums of row weights that all metrics are made of, for many bootstrap replicates at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from evaluation.ranking import Ranking
from evaluation.rows import Float64Array, Rows

# 52 replicates of 10,000 rows: the sums of a block then stay near the processor, which is faster than
# more replicates at once.
WEIGHTS_PER_BLOCK = 2**19

Matrix = csr_array | Float64Array
"""``[S, N]`` what each row adds to each of S sums."""


class WeightedRows:
    """One model's rows, ready to be summed up under any weighting.

    What depends on the rows alone (ranks, bins, losses) is worked out once, when the first metric asks for
    it; a block of replicates then costs a few products with its weights.

    Args:
        rows: checked.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._rankings: dict[int, Ranking] = {}
        self._matrices: dict[Callable[[Rows], Matrix], Matrix] = {}

    def __call__(self, weights_NB: Float64Array) -> Sums:
        """The sums under B weightings.

        Args:
            weights_NB: ``[N, B]`` non-negative row weights; each class needs weight in every replicate.
                Contiguous rows of B numbers are what a sparse matrix adds up fast.
        """
        return Sums(self, weights_NB)

    @classmethod
    def once(cls, rows: Rows) -> Sums:
        """The sums of the rows as they are: B = 1, every weight 1."""
        return cls(rows)(np.ones((len(rows.labels), 1)))

    def ranking(self, label: int) -> Ranking:
        """That of one class against the rest, built once."""
        if label not in self._rankings:
            self._rankings[label] = Ranking(self.rows.labels == label, self.rows.p[:, label])
        return self._rankings[label]

    def matrix(self, of_rows: Callable[[Rows], Matrix]) -> Matrix:
        """``of_rows(rows)``, called once."""
        if of_rows not in self._matrices:
            self._matrices[of_rows] = of_rows(self.rows)
        return self._matrices[of_rows]


class Sums:
    """What a metric may use: B weightings of one model's rows, all K classes.

    Everything is computed when it is first asked for. Classes are in their own order, minority last.

    Args:
        weighted: the rows.
        weights_NB: ``[N, B]`` row weights.
    """

    def __init__(self, weighted: WeightedRows, weights_NB: Float64Array) -> None:
        self._weighted = weighted
        self._weights_NB = weights_NB
        self._ranked: dict[int, tuple[Float64Array, Float64Array]] = {}

    @property
    def n_classes(self) -> int:
        """K."""
        return self._weighted.rows.n_classes

    @cached_property
    def confusion(self) -> Float64Array:
        """``[K, K, B]`` weight of the rows of each true class (first axis) decided as each class (second)."""
        return self.total(_confusion_cells).reshape(self.n_classes, self.n_classes, -1)

    @cached_property
    def of_class(self) -> Float64Array:
        """``[K, B]`` weight of each true class."""
        total: Float64Array = self.confusion.sum(axis=1)
        return total

    @cached_property
    def decided(self) -> Float64Array:
        """``[K, B]`` weight of the rows that were decided as each class."""
        total: Float64Array = self.confusion.sum(axis=0)
        return total

    @cached_property
    def hits(self) -> Float64Array:
        """``[K, B]`` weight of each class's rows that were decided correctly."""
        hits: Float64Array = np.einsum("kkb->kb", self.confusion)
        return hits

    @cached_property
    def total_weight(self) -> Float64Array:
        """``[B]`` weight of all rows."""
        total: Float64Array = self.of_class.sum(axis=0)
        return total

    @cached_property
    def recalls(self) -> Float64Array:
        """``[K, B]`` share of each class's rows that were decided correctly."""
        return self.hits / self.of_class

    @cached_property
    def specificities(self) -> Float64Array:
        """``[K, B]`` share of the rows of all other classes that were not decided as each class."""
        return 1.0 - (self.decided - self.hits) / (self.total_weight - self.of_class)

    @cached_property
    def f1(self) -> Float64Array:
        """``[K, B]`` F1 of each class; 0 where none of its rows was found."""
        # 2 TP / (2 TP + FP + FN): the class's own weight is never 0, so neither is the denominator.
        return 2.0 * self.hits / (self.of_class + self.decided)

    def auroc(self, label: int) -> Float64Array:
        """``[B]`` AUROC of the probability of one class against the rest; -1 is the minority."""
        return self._ranking(label)[0]

    def average_precision(self, label: int) -> Float64Array:
        """``[B]`` average precision of the probability of one class against the rest; -1 is the minority."""
        return self._ranking(label)[1]

    def total(self, of_rows: Callable[[Rows], Matrix]) -> Float64Array:
        """``[S, B]`` sums of any values of the rows, weighted.

        Args:
            of_rows: gives ``[S, N]`` values, what each row adds to each sum. Pass a function of a module: it
                is called once and remembered by its identity.
        """
        return np.asarray(self._weighted.matrix(of_rows) @ self._weights_NB)

    def mean(self, of_rows: Callable[[Rows], Matrix]) -> Float64Array:
        """``[S, B]`` weighted means over rows; see :meth:`total`."""
        return self.total(of_rows) / self.total_weight

    def _ranking(self, label: int) -> tuple[Float64Array, Float64Array]:
        # So that -1 and K - 1, both the minority, share one ranking.
        label %= self.n_classes
        if label not in self._ranked:
            self._ranked[label] = self._weighted.ranking(label)(self._weights_NB)
        return self._ranked[label]


def binned(values: Float64Array, bins: npt.NDArray[np.int64], n_bins: int) -> csr_array:
    """``[S, N]`` matrix that adds each row's value to the sum of its bin.

    Args:
        values: ``[N]``.
        bins: ``[N]`` index of the sum that each row belongs to.
        n_bins: S.
    """
    return csr_array((values, (bins, np.arange(len(bins)))), shape=(n_bins, len(bins)))


def _confusion_cells(rows: Rows) -> csr_array:
    k = rows.n_classes
    return binned(np.ones(len(rows.labels)), rows.labels * k + rows.decision, k * k)
