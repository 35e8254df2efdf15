"""Score columns → comparable stacker inputs: standardised logits and standardised log anomaly scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from ensemble.logistic import Float64Array
from ensemble.stacking.training_scores import TrainingScores

# Offset inside the logarithm, as a share of the median score. It compresses scores far below the median, so
# that a score of exactly 0 is no outlier; the upper end, where anomalies are, stays logarithmic.
EPS_OF_MEDIAN = 1e-2


@dataclass(frozen=True)
class ColumnTransform:
    """``z = (g(score) - mean) / std``, g = identity or log(max(score - floor, 0) + eps).

    All attributes are ``[M]``, one entry per column.

    Attributes:
        is_log: True for anomaly scores, which have long tails.
        floor: 0, or the lowest training score of a member with negative scores; 0 for logits.
        eps: offset inside the logarithm, > 0, in units of the score; 1 for logits, where it is not used.
        mean: of g over the training rows.
        std: of g over the training rows; 1 for a constant column.
    """

    is_log: npt.NDArray[np.bool_]
    floor: Float64Array
    eps: Float64Array
    mean: Float64Array
    std: Float64Array

    @classmethod
    def fit(cls, training: TrainingScores) -> ColumnTransform:
        """Fit the scales to out-of-fold rows (all classes, unweighted).

        The K logits of one member share one mean and one std, which preserves their order.
        """
        scores = training.scores
        is_log = np.array([column.meaning == "anomaly_score" for column in training.columns])
        # Some models from elsewhere give negative anomaly scores; the logarithm needs them shifted to 0 or
        # more.
        floor = np.where(is_log, np.minimum(scores.min(axis=0), 0.0), 0.0)
        eps = np.ones(len(is_log))
        for m in np.flatnonzero(is_log):
            above = scores[:, m] - floor[m]
            # The median of the positive scores only: a member that gives many exact zeros would otherwise get
            # an eps of 0.
            positive = above[above > 0]
            eps[m] = EPS_OF_MEDIAN * np.median(positive) if len(positive) else 1.0
        raw = _before_scaling(scores, is_log, floor, eps)
        mean, std = np.empty(len(is_log)), np.empty(len(is_log))
        for block in training.blocks:
            columns = list(block.columns)
            values = raw[:, columns]
            # One mean and one scale per member, so that standardising does not reorder its K logits.
            mean[columns] = values.mean()
            # Softmax compares the logits of a block within a row, so the spread within rows sets the scale.
            spread = values - values.mean(axis=1, keepdims=True) if block.is_logit_block else values
            std[columns] = spread.std()
        # A column that is constant up to float32 noise carries no information; dividing by its std would turn
        # the noise into an input.
        constant = std <= 1e-6 * np.maximum(1e-30, np.abs(mean))
        return cls(is_log, floor, eps, mean, np.where(constant, 1.0, std))

    def __call__(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """``[N, M]`` raw scores → ``[N, M]`` float64 stacker inputs.

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
        return (_before_scaling(scores_NM, self.is_log, self.floor, self.eps) - self.mean) / self.std

    def to_json(self) -> dict[str, list[Any]]:
        """JSON document; floats round-trip exactly."""
        return {name: getattr(self, name).tolist() for name in ("is_log", "floor", "eps", "mean", "std")}

    @classmethod
    def from_json(cls, document: dict[str, list[Any]]) -> ColumnTransform:
        """Rebuild from :meth:`to_json`."""
        return cls(
            np.asarray(document["is_log"], dtype=np.bool_),
            *(np.asarray(document[name], dtype=np.float64) for name in ("floor", "eps", "mean", "std")),
        )


def _before_scaling(
    scores: Float64Array, is_log: npt.NDArray[np.bool_], floor: Float64Array, eps: Float64Array
) -> Float64Array:
    """The function g of :class:`ColumnTransform`, column by column."""
    return np.where(is_log, np.log(np.maximum(scores - floor, 0.0) + eps), scores)
