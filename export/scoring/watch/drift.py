"""Whether the images of a batch are like those of training, whatever the share of the minority among them.

For every watched quantity the batch's distribution function is compared, at the edges of the reference's
bins, with the mixture of what normal images and the minority had in training. The share of the mixture is
free within what the batch's scores do not exclude (:attr:`export.scoring.watch.share.Share.possible`), but
the same for all quantities: if there is a share that explains the batch, there is no drift. What is left is
divided by its standard deviation (of the batch and of both references), after the quantity's margin is taken
off, and the largest such deviation over all quantities and edges decides.

The bound is Bonferroni's, over all edges of all quantities: of batches of independent images like those of
training, at most a share :data:`FALSE_ALARMS` raises an alarm, up to the normal approximation. The best
share is chosen in the batch's favour and tests overlap, so that in fact it is less
(``docs/results/watch.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from export.scoring.watch.batch import BatchCounts
from export.scoring.watch.reference import FloatArray64, IntArray, Quantity, WatchReference

FALSE_ALARMS = 0.01
"""Of batches without drift, at most this share raises an alarm; over all quantities together."""

MARGIN = 0.05
"""Of picture facts: up to this share of a batch may look different without an alarm."""

_MUCH = 4.0
"""Standard deviations from which on a quantity has no more say in which share explains the others."""

_SHARES = np.linspace(0.0, 1.0, 41) ** 2
"""Where shares are tried as an explanation, from the least possible one (0) to the largest (1)."""


@dataclass(frozen=True)
class Change:
    """One quantity of a batch beside training.

    Attributes:
        name: of the quantity.
        title: for people.
        p: adjusted for all comparisons, 0…1; the chance of at least this deviation in a batch without drift.
        distance: largest difference of the two distribution functions, 0…1, at the share that fits best.
        median: of the batch, to within a bin.
        usual: median in training.
        alarm: ``p`` is at most :data:`FALSE_ALARMS`.
    """

    name: str
    title: str
    p: float
    distance: float
    median: float
    usual: float

    @property
    def alarm(self) -> bool:
        """Whether the quantity by itself raises an alarm."""
        return self.p <= FALSE_ALARMS

    def to_json(self) -> dict[str, Any]:
        """Of the JSON documents."""
        return {
            "name": self.name,
            "title": self.title,
            "alarm": self.alarm,
            "p": self.p,
            "distance": self.distance,
            "median": self.median,
            "usual": self.usual,
        }


def drift(
    reference: WatchReference, batch: BatchCounts, possible: tuple[float, float] = (0.0, 1.0)
) -> list[Change]:
    """Compare a batch with training, quantity by quantity; those that changed most come first.

    Args:
        reference: of the file.
        batch: at least a few images.
        possible: least and largest share of the minority that may explain it.
    """
    shares = possible[0] + (possible[1] - possible[0]) * _SHARES if reference.by_class else _SHARES[:1]
    deviations = [
        _deviations(quantity, counts, reference.independent, shares)
        for quantity, counts in zip(reference.quantities, batch.counts, strict=True)
    ]
    largest = np.stack([each.max(axis=1) for each in deviations])  # [Q, shares]
    comparisons = sum(each.shape[1] for each in deviations)
    best = int(largest.max(axis=0).argmin())
    if comparisons * _tail(largest[:, best].max()) <= FALSE_ALARMS:
        # There is drift, whatever the share. To name it, the share that most quantities agree on: the best
        # one would let all of them look changed a little for the sake of the worst.
        best = int((np.minimum(largest, _MUCH) ** 2).sum(axis=0).argmin())
    # Scores are of all training rows, picture facts of as many of each class as there are up to a limit.
    rows = max(
        (each.counts.sum(axis=1) for each in reference.quantities), key=lambda of_class: of_class.sum()
    )
    trained = float(rows[-1] / rows.sum()) if reference.by_class else 0.0
    changes = []
    for at, (quantity, counts) in enumerate(zip(reference.quantities, batch.counts, strict=True)):
        expected = _mixture(quantity, float(shares[best]))
        changes.append(
            Change(
                quantity.name,
                quantity.title,
                min(1.0, comparisons * _tail(largest[at, best])),
                float(np.abs(_below(counts) - expected).max()),
                _median(quantity.edges, _below(counts)),
                _median(quantity.edges, _mixture(quantity, trained)),
            )
        )
    return sorted(changes, key=lambda change: (change.p, -change.distance))


def _tail(deviation: float) -> float:
    """The chance of at least so many standard deviations, either way."""
    return 2.0 * NormalDist().cdf(-float(deviation))


def _below(counts: IntArray) -> FloatArray64:
    """``[…, E]`` share of images up to each edge."""
    n = np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return np.asarray(counts.cumsum(axis=-1)[..., :-1] / n, dtype=np.float64)


def _mixture(quantity: Quantity, share: float) -> FloatArray64:
    """``[E]`` share of training images up to each edge, were so many of the minority."""
    below = _below(quantity.counts)
    mixed = below[0] if len(below) == 1 else (1.0 - share) * below[0] + share * below[1]
    return np.asarray(mixed, dtype=np.float64)


def _deviations(
    quantity: Quantity, counts: IntArray, independent: tuple[float, ...], shares: FloatArray64
) -> FloatArray64:
    """``[shares, E]`` standard deviations by which a batch leaves each mixture, less the margin; >= 0."""
    n = int(counts.sum())
    below = _below(quantity.counts)
    weights = np.stack([1.0 - shares, shares])[: len(below)]
    mixture = weights.T @ below
    difference = np.abs(_below(counts) - mixture)
    # Nothing is known to be impossible: half an image on either side of every edge.
    known = quantity.counts.sum(axis=1) * np.asarray(independent)
    likely = (below * known[:, None] + 0.5) / (known[:, None] + 1.0)
    of_reference = (weights**2).T @ (likely * (1.0 - likely) / (known[:, None] + 1.0))
    expected = np.clip(mixture, 0.5 / (n + 1.0), 1.0 - 0.5 / (n + 1.0))
    # The last term keeps one or two single images beyond all others from being an alarm.
    variance = expected * (1.0 - expected) / n + of_reference + 1.0 / n**2
    return np.asarray(np.maximum(difference - quantity.margin, 0.0) / np.sqrt(variance), dtype=np.float64)


def _median(edges: FloatArray64, below: FloatArray64) -> float:
    """Where half of the images are below, between two edges as if evenly spread; within the edges."""
    at = int(np.searchsorted(below, 0.5))
    if at == 0 or at == len(edges):
        return float(edges[min(at, len(edges) - 1)])
    rise = below[at] - below[at - 1]
    within = (0.5 - below[at - 1]) / rise if rise > 0.0 else 0.0
    return float(edges[at - 1] + within * (edges[at] - edges[at - 1]))
