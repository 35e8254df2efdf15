"""The scale that anomaly scores are given on: 0 is a typical normal image, 1 one standard deviation more.

Two fits of one member measure in different units: another network, another bank, other rows. So each fit
takes the location and the spread of normal images' scores, and gives scores relative to them. Then scores of
rows that a fold held out, of new images by the final fit, and of different members mean the same.

Distances have long tails, which their logarithm has not. Scores that may be negative are taken as they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from contracts.rows import FloatArray

# Offset inside the logarithm, as a share of the median score. It compresses scores far below the median, so
# that a score of exactly 0 is no outlier; the upper end, where anomalies are, stays logarithmic.
_OFFSET_OF_MEDIAN = 1e-2
# A spread below this share of the location is float32's rounding, and no unit to measure in.
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class ScoreScale:
    """``standardised = (g(raw) - location) / spread``.

    Attributes:
        location: g of a typical normal image.
        spread: standard deviation of g over normal images, > 0; 1 where the reference has none.
        offset: g is ``log(max(raw, 0) + offset)``, > 0, in units of the raw score; None: g is the identity.
    """

    location: float
    spread: float
    offset: float | None

    @classmethod
    def of_reference(cls, raw: FloatArray, *, may_be_negative: bool = False) -> Self:
        """From raw scores of normal images, each as if the fit had not seen that image.

        Args:
            raw: ``[R]`` or ``[R, 1]``, finite, R >= 1.
            may_be_negative: whether the raw score is no distance, so that no logarithm is taken.
        """
        values = raw.astype(np.float64).ravel()
        offset = None if may_be_negative else _offset_of(values)
        values = _before_scaling(values, offset)
        location, spread = float(values.mean()), float(values.std())
        # One normal image, or a few that are all alike, show no spread. Scores then stay in units of g.
        has_spread = spread > _LEAST_SPREAD * max(1.0, abs(location))
        return cls(location, spread if has_spread else 1.0, offset)

    def __call__(self, raw: FloatArray) -> FloatArray:
        """Standardised scores of the same shape, float32."""
        scaled = (_before_scaling(raw.astype(np.float64), self.offset) - self.location) / self.spread
        return scaled.astype(np.float32)

    @property
    def numbers(self) -> npt.NDArray[np.float64]:
        """``[3]`` as a graph reads a scale of distances: offset, factor before the logarithm, 1 / spread."""
        assert self.offset is not None  # there is no logarithm else
        return np.array([self.offset, np.exp(-self.location), 1.0 / self.spread])

    def to_json(self) -> dict[str, float | None]:
        """JSON document; floats round-trip exactly."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Rebuild from :meth:`to_json`."""
        return cls(**document)


def _offset_of(values: npt.NDArray[np.float64]) -> float:
    # The median of the positive scores only: many exact zeros would otherwise give an offset of 0.
    positive = values[values > 0]
    return float(_OFFSET_OF_MEDIAN * np.median(positive)) if len(positive) else 1.0


def _before_scaling(values: npt.NDArray[np.float64], offset: float | None) -> npt.NDArray[np.float64]:
    return values if offset is None else np.log(np.maximum(values, 0.0) + offset)
