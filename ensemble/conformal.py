"""How often an image of a class looks at least as unlike it as this one: conformal p-values of both classes.

A probability of the minority needs labelled minority images. This needs normal ones alone: an image's
``p_normal`` is the share of the normal images that score at least as high as it does, the image itself
counted among them. Of normal images that resemble the ones it was fitted on, at most a share of alpha gets
``p_normal <= alpha``, whatever the distribution of their scores (Vovk, Gammerman & Shafer 2005, class-
conditional form).

``p_minority`` is its twin on the labelled minority images: the share of them that score as low as the image
or lower. Of minority images that resemble these, at most a share of alpha gets ``p_minority <= alpha``. Both
together say which classes an image may be of: :mod:`ensemble.triage`.

Images of one group (patient, lot, family of near copies) tell less than as many independent ones. Each group
therefore counts as one, and its images share that weight (hierarchical conformal prediction: Dunn, Wasserman
& Ramdas 2022; Lee, Barber & Willett 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from contracts.errors import DataError, ModelError
from ensemble.logistic import Float64Array

MOST_STEPS = 1024
"""Steps of the stored function. Up to as many distinct calibration scores it is exact."""

_EXACT_TAIL = MOST_STEPS // 2
"""So many of the highest calibration scores are never thinned: decisions are made there."""

Of = Literal["normal", "minority"]

_DIGITS = 12
"""Weights of a group's images are fractions such as 1/3; rounding their sums makes three thirds 1 again."""


@dataclass(frozen=True)
class ConformalClass:
    """``p(s) = (1 + weight of all calibration scores >= s) / (n + 1)``, a falling step function.

    The higher a score, the less like the class the image is: the fused score for normal images, minus the
    fused score for the minority's.

    Attributes:
        n: independent images of the class that it rests on: groups, or images where each is a group.
        images: of the class that it was fitted on; not fewer than ``n``.
        knots: ``[G]`` ascending scores at which the function falls, G <= :data:`MOST_STEPS`.
        levels: ``[G + 1]`` falling values; ``levels[j]`` holds behind ``j`` knots, up to and including the
            next one. The first is 1 and the last ``1 / (n + 1)``.
        of: which class.
    """

    n: int
    images: int
    knots: tuple[float, ...]
    levels: tuple[float, ...]
    of: Of = "normal"

    @classmethod
    def fit(cls, scores: Float64Array, groups: npt.NDArray[np.int64], of: Of = "normal") -> ConformalClass:
        """Fit to images of one class that the scored models were not fitted on.

        Args:
            scores: ``[N]`` cross-fitted scores of the class's images, higher = less like the class.
            groups: ``[N]`` group index; equal numbers belong together.
            of: which class, for people.

        Raises:
            DataError: there is no image of the class.
            ModelError: some scores are not finite.
        """
        if not len(scores):
            raise DataError(f"p_{of}: no {of} image was scored out of fold. Give {of} images.")
        if not np.isfinite(scores).all():
            raise ModelError(f"p_{of}: some out-of-fold scores are not finite. Train the members again.")
        _, of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        distinct, value_of_row = np.unique(scores, return_inverse=True)
        weight_of_value = np.bincount(value_of_row, weights=1.0 / sizes[of_row])
        # above[j]: weight of all scores above distinct[j].
        above = np.round(np.cumsum(weight_of_value[::-1])[::-1] - weight_of_value, _DIGITS)
        kept = _kept(len(distinct))
        n = len(sizes)
        # Between two kept knots the function takes its value right behind the lower one, the largest that the
        # exact function has there: thinning rounds p up, never down.
        levels = np.concatenate([[1.0], (1.0 + np.maximum(above[kept], 0.0)) / (n + 1.0)])
        return cls(n, len(scores), tuple(distinct[kept].tolist()), tuple(levels.tolist()), of)

    @property
    def least(self) -> float:
        """``1 / (n + 1)``: the smallest p-value, and the smallest error rate to ask for."""
        return self.levels[-1]

    def __call__(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """``[N]`` scores → ``[N]`` p-values in ``[1 / (n + 1), 1]``."""
        passed = np.searchsorted(np.asarray(self.knots), scores, side="left")
        return np.asarray(self.levels, dtype=np.float64)[passed]

    def to_json(self) -> dict[str, Any]:
        """JSON document; floats round-trip exactly."""
        return {
            "n": self.n,
            "images": self.images,
            "knots": list(self.knots),
            "levels": list(self.levels),
            "of": self.of,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ConformalClass:
        """Rebuild from :meth:`to_json`."""
        knots, levels = tuple(document["knots"]), tuple(document["levels"])
        return cls(document["n"], document["images"], knots, levels, document["of"])

    @property
    def sentence(self) -> str:
        """What the p-value rests on and how small it can get, for people."""
        resting = f"{self.images} {self.of} images"
        if self.n < self.images:
            resting += f" in {self.n} independent groups"
        return (
            f"p_{self.of} places an image among {resting} scored out of fold; its smallest value is "
            f"{self.least:.4g}, 1 / {self.n + 1}."
        )


def fused_score(logits: Float64Array) -> Float64Array:
    """``[N]`` log-odds of the minority against all other classes.

    Args:
        logits: ``[N]`` log-odds, which are returned, or ``[N, K]`` logits, minority last.
    """
    if logits.ndim == 1:
        return logits
    return np.asarray(logits[:, -1] - logsumexp(logits[:, :-1], axis=1), dtype=np.float64)


def _kept(n_distinct: int) -> npt.NDArray[np.int64]:
    """Ascending positions of the distinct scores that become knots.

    All of them while they are few. Of more, the highest, and below them ever sparser ones: evenly spaced in
    the logarithm of their rank, so that the rounding of p_normal is small beside p_normal itself (about 1 %
    for 100,000 images).
    """
    if n_distinct <= MOST_STEPS:
        return np.arange(n_distinct)
    rank = np.geomspace(_EXACT_TAIL, n_distinct, MOST_STEPS - _EXACT_TAIL + 1)[1:].astype(np.int64)
    # Distinct ranks from the top, 1 the highest; adjacent ones may round to the same.
    ranks = np.unique(np.concatenate([np.arange(1, _EXACT_TAIL + 1), rank]))
    return n_distinct - ranks[::-1]
