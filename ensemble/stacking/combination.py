"""A weighted sum of standardised columns: the form of the stack and of all simple fusions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.logistic import Float64Array
from ensemble.stacking.transform import ColumnTransform


@dataclass(frozen=True)
class LinearCombination:
    """``logits = transform(scores) @ weights + intercept``.

    Attributes:
        transform: raw scores → standardised inputs, ``[N, M]``.
        weights: ``[M, C]``; C = 1 for two classes, K otherwise.
        intercept: ``[C]``.
    """

    transform: ColumnTransform
    weights: Float64Array
    intercept: Float64Array

    def logits(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """``[N, M]`` raw scores → ``[N]`` minority log-odds, or ``[N, K]`` logits for K > 2.

        Raises:
            ModelError: see :meth:`ensemble.stacking.transform.ColumnTransform.__call__`.
        """
        logits = self.transform(scores) @ self.weights + self.intercept
        return logits[:, 0] if self.weights.shape[1] == 1 else logits

    def to_json(self) -> dict[str, Any]:
        """JSON document; floats round-trip exactly."""
        return {
            "transform": self.transform.to_json(),
            "weights": self.weights.tolist(),
            "intercept": self.intercept.tolist(),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> LinearCombination:
        """Rebuild from :meth:`to_json`."""
        return cls(
            ColumnTransform.from_json(document["transform"]),
            np.asarray(document["weights"], dtype=np.float64),
            np.asarray(document["intercept"], dtype=np.float64),
        )
