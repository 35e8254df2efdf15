"""Score columns → comparable stacker inputs: standardised logits and standardised anomaly scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from ensemble.logistic import Float64Array
from ensemble.stacking.training_scores import TrainingScores


@dataclass(frozen=True)
class ColumnTransform:
    """``z = (score - mean) / std``.

    Anomaly scores come on their members' own scale, in logarithms where they are distances, so they are
    treated like logits.

    Attributes:
        mean: ``[M]`` over the training rows.
        std: ``[M]`` over the training rows; 1 for a constant column.
    """

    mean: Float64Array
    std: Float64Array

    @classmethod
    def fit(cls, training: TrainingScores) -> ColumnTransform:
        """Fit the scales to out-of-fold rows (all classes, unweighted).

        The K logits of one member share one mean and one std, which preserves their order.
        """
        scores = training.scores
        mean, std = np.empty(scores.shape[1]), np.empty(scores.shape[1])
        for block in training.blocks:
            columns = list(block.columns)
            values = scores[:, columns]
            # One mean and one scale per member, so that standardising does not reorder its K logits.
            mean[columns] = values.mean()
            # Softmax compares the logits of a block within a row, so the spread within rows sets the scale.
            spread = values - values.mean(axis=1, keepdims=True) if block.is_logit_block else values
            std[columns] = spread.std()
        # A column that is constant up to float32 noise carries no information; dividing by its std would turn
        # the noise into an input.
        constant = std <= 1e-6 * np.maximum(1e-30, np.abs(mean))
        return cls(mean, np.where(constant, 1.0, std))

    def __call__(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """``[N, M]`` scores → ``[N, M]`` float64 stacker inputs.

        Raises:
            ModelError: the number of columns is wrong, or scores are not finite.
        """
        scores_NM: Float64Array = np.asarray(scores, dtype=np.float64)
        if scores_NM.ndim != 2 or scores_NM.shape[1] != len(self.mean):
            raise ModelError(
                f"ensemble: scores of shape {scores_NM.shape}, but [N, {len(self.mean)}] expected. "
                "Give one column for each column the ensemble was fitted on, in that order."
            )
        if not np.isfinite(scores_NM).all():
            column = int(np.argmin(np.isfinite(scores_NM).all(axis=0)))
            raise ModelError(
                f"ensemble: column {column} holds NaN or infinite scores. "
                "Score these rows again or leave them out."
            )
        return (scores_NM - self.mean) / self.std

    def to_json(self) -> dict[str, list[Any]]:
        """JSON document; floats round-trip exactly."""
        return {name: getattr(self, name).tolist() for name in ("mean", "std")}

    @classmethod
    def from_json(cls, document: dict[str, list[Any]]) -> ColumnTransform:
        """Rebuild from :meth:`to_json`."""
        return cls(*(np.asarray(document[name], dtype=np.float64) for name in ("mean", "std")))
