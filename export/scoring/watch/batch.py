"""What is counted of a batch while it is scored; counts of shards add up, and no image is kept.

Every part file holds the counts of its own rows in its footer. A finished run, and a day of many runs, is
their sum, whatever the number of images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contracts.rows import FloatArray
from export.scoring.plan import Override
from export.scoring.watch.reference import (
    LOG_ODDS,
    N_FINE,
    FloatArray64,
    IntArray,
    WatchReference,
    bin_counts,
    feature_name,
    fine_counts,
)
from imagedata.decoding.facts import TITLES

FOOTER_KEY = b"outnumbered_watch"
"""Of the counts, in a part file's footer."""

_SMALLEST_P = 2.0**-24


@dataclass(frozen=True)
class BatchCounts:
    """Counts of some scored images.

    Attributes:
        counts: for each watched quantity ``[E + 1]`` images by its bins, in the reference's order.
        log_odds: ``[N_FINE]`` images by log-odds at the class shares of training; all 0 without a
            probability.
        images: number of images.
    """

    counts: tuple[IntArray, ...]
    log_odds: IntArray
    images: int

    @classmethod
    def none_of(cls, reference: WatchReference) -> BatchCounts:
        """Of no image."""
        empty = tuple(np.zeros(len(each.edges) + 1, dtype=np.int64) for each in reference.quantities)
        return cls(empty, np.zeros(N_FINE, dtype=np.int64), 0)

    def __add__(self, other: BatchCounts) -> BatchCounts:
        """Of both batches together."""
        return BatchCounts(
            tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)),
            self.log_odds + other.log_odds,
            self.images + other.images,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON document."""
        return {
            "images": self.images,
            "counts": [each.tolist() for each in self.counts],
            "log_odds": self.log_odds.tolist(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BatchCounts:
        """Rebuild from :meth:`to_json`."""
        return cls(
            tuple(np.asarray(each, dtype=np.int64) for each in document["counts"]),
            np.asarray(document["log_odds"], dtype=np.int64),
            int(document["images"]),
        )

    def to_bytes(self) -> bytes:
        """For a part file's footer."""
        return json.dumps(self.to_json(), separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> BatchCounts:
        """Read a part file's footer."""
        return cls.from_json(json.loads(data))


def count_images(
    reference: WatchReference,
    members: Sequence[str],
    facts: FloatArray,
    member_scores: FloatArray,
    log_odds: FloatArray64 | None,
    features: FloatArray | None = None,
) -> BatchCounts:
    """Count images by the bins of a reference.

    Args:
        reference: of the file.
        members: M names of score columns.
        facts: ``[N, F]`` by :func:`imagedata.decoding.facts.picture_facts`.
        member_scores: ``[N, M]``, finite.
        log_odds: ``[N]`` at the class shares of training; None without a probability.
        features: ``[N, k]`` watched features; None where the file gives none.
    """
    columns: dict[str, Any] = dict(zip(TITLES, facts.T, strict=True))
    columns |= {f"score_{name}": member_scores[:, at] for at, name in enumerate(members)}
    columns |= {} if log_odds is None else {LOG_ODDS: log_odds}
    if features is not None:
        columns |= {feature_name(at): features[:, at] for at in range(features.shape[1])}
    return BatchCounts(
        tuple(bin_counts(each.edges, columns[each.name]) for each in reference.quantities),
        fine_counts([] if log_odds is None else log_odds),
        len(facts),
    )


def log_odds_in_training(
    probability: FloatArray, prior: Override, document: Mapping[str, Any]
) -> FloatArray64:
    """``[N]`` log-odds of the minority at the class shares of training, from probabilities at another prior.

    Args:
        probability: ``[N]`` of the minority, or ``[N, K]`` of every class.
        prior: that they were computed at; None for the file's own.
        document: of the file.
    """
    own, trained = document["prior"], document["trained_prior"]
    at = _shares(own if prior is None else prior)
    p = np.clip(np.asarray(probability, dtype=np.float64), _SMALLEST_P, 1.0 - _SMALLEST_P)
    p = np.stack([1.0 - p, p], axis=1) if p.ndim == 1 else p
    # p'_k is proportional to p_k * trained_k / prior_k.
    shifted = p * (_shares(trained) / at)
    return np.asarray(np.log(shifted[:, -1]) - np.log(shifted[:, :-1].sum(axis=1)), dtype=np.float64)


def _shares(prior: Any) -> FloatArray64:
    """``[K]`` class shares, minority last, of one number for two classes or of K."""
    shares = np.atleast_1d(np.asarray(prior, dtype=np.float64))
    return np.array([1.0 - shares[0], shares[0]]) if len(shares) == 1 else shares
