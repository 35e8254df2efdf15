"""A fitted ensemble: from scores to probability and decision; saved as JSON without loss of precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from contracts.rows import LabelArray
from contracts.scores import ScoreColumn
from ensemble.calibration.calibrator import Calibrator
from ensemble.calibration.fitting import calibrator_from_json, calibrator_to_json
from ensemble.logistic import Float64Array
from ensemble.prior import Prior, check_prior, probability, shift_logit
from ensemble.stacking.combination import LinearCombination

FORMAT = "outnumbered-ensemble-1"

# A threshold on the minority's probability for two classes; K numbers, minority last, for more.
Threshold = float | tuple[float, ...]


def decide_class(p: Float64Array, threshold: float | Sequence[float]) -> LabelArray:
    """``[N]`` decided class index.

    Args:
        p: ``[N]`` minority probabilities, or ``[N, K]`` class probabilities.
        threshold: the minority is decided where its probability reaches it; for K classes, the class whose
            probability is largest over its own threshold.
    """
    limit = np.asarray(threshold, dtype=np.float64)
    # Dividing by the threshold is the K-class form of p >= t; argmax gives ties to the first class, as ONNX's
    # ArgMax does.
    decision = p >= limit if p.ndim == 1 else (p / limit).argmax(axis=1)
    return np.asarray(decision, dtype=np.int64)


@dataclass(frozen=True)
class FittedEnsemble:
    """combination → calibrator → prior shift → threshold, for one stack, simple fusion or single member.

    Attributes:
        method: ``stack``, ``best_single``, ``plain_mean``, ``greedy`` or ``single:<member>``.
        columns: the M score columns it reads, in order.
        class_names: K names, minority last.
        combination: raw scores → logit.
        calibrator: logit → calibrated logit at the trained prior.
        trained_prior: class shares of the out-of-fold rows.
        deployment_prior: class shares that the probabilities refer to by default.
        threshold: on the minority's probability at the deployment prior; the minority is decided where
            ``p >= threshold``. For K > 2 there is one per class, and the class with the largest
            p_k / threshold_k is decided.
        threshold_rule: as the user wrote it.
        sentences: on gate, calibrator, prior and threshold, for people.
    """

    method: str
    columns: tuple[ScoreColumn, ...]
    class_names: tuple[str, ...]
    combination: LinearCombination
    calibrator: Calibrator
    trained_prior: Prior
    deployment_prior: Prior
    threshold: Threshold
    threshold_rule: str
    sentences: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def binary_threshold(self) -> float:
        """The threshold of two classes, one number."""
        if not isinstance(self.threshold, float):
            raise ModelError(
                f"ensemble of {self.n_classes} classes: it has one threshold per class, not a single one."
            )
        return self.threshold

    def calibrated_logit(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """``[N, M]`` scores → ``[N]`` or ``[N, K]`` calibrated logits at the trained prior."""
        return self.calibrator(self.combination.logits(scores))

    def predict(
        self, scores: npt.NDArray[np.floating[Any]], prior: float | Sequence[float] | None = None
    ) -> Float64Array:
        """``[N]`` minority probabilities, or ``[N, K]`` class probabilities for K > 2.

        Args:
            scores: ``[N, M]`` raw member scores in the order of :attr:`columns`.
            prior: deployment class shares that replace :attr:`deployment_prior`.

        Raises:
            ModelError: wrong number of columns, or scores that are not finite.
            UsageError: the prior is no class share.
        """
        # The calibrator refers to the trained shares; the shift comes after it, so one fitted ensemble serves
        # any prior without refitting.
        deployment = self.deployment_prior if prior is None else check_prior(prior, self.n_classes)
        return probability(shift_logit(self.calibrated_logit(scores), self.trained_prior, deployment))

    def p_minority(
        self, scores: npt.NDArray[np.floating[Any]], prior: float | Sequence[float] | None = None
    ) -> Float64Array:
        """``[N]`` probability of the minority, for any K."""
        p = self.predict(scores, prior)
        return p if p.ndim == 1 else p[:, -1]

    def decide(
        self,
        scores: npt.NDArray[np.floating[Any]],
        prior: float | Sequence[float] | None = None,
        threshold: float | Sequence[float] | None = None,
    ) -> LabelArray:
        """``[N]`` decided class index.

        For two classes it is the minority where its probability reaches the threshold; for more, the class
        with the largest p_k / threshold_k, and the first among equals.

        Args:
            scores: ``[N, M]``.
            prior: replaces :attr:`deployment_prior`.
            threshold: replaces :attr:`threshold`.
        """
        return decide_class(self.predict(scores, prior), self.threshold if threshold is None else threshold)

    def to_json(self) -> dict[str, Any]:
        """JSON document for :func:`contracts.files.write_json`; floats round-trip exactly."""
        return {
            "format": FORMAT,
            "method": self.method,
            "columns": [
                {"member": c.member, "kind": c.kind, "meaning": c.meaning, "class_name": c.class_name}
                for c in self.columns
            ],
            "class_names": list(self.class_names),
            "combination": self.combination.to_json(),
            "calibrator": calibrator_to_json(self.calibrator),
            "trained_prior": _prior_to_json(self.trained_prior),
            "deployment_prior": _prior_to_json(self.deployment_prior),
            "threshold": _prior_to_json(self.threshold),
            "threshold_rule": self.threshold_rule,
            "sentences": list(self.sentences),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> FittedEnsemble:
        """Rebuild from :meth:`to_json`.

        Raises:
            ModelError: not an ensemble document of this version.
        """
        if document.get("format") != FORMAT:
            raise ModelError(
                f"ensemble file: format {document.get('format')!r}, but {FORMAT!r} expected. "
                "Run the ensemble command again with this version."
            )
        return cls(
            method=document["method"],
            columns=tuple(ScoreColumn(**column) for column in document["columns"]),
            class_names=tuple(document["class_names"]),
            combination=LinearCombination.from_json(document["combination"]),
            calibrator=calibrator_from_json(document["calibrator"]),
            trained_prior=_prior_from_json(document["trained_prior"]),
            deployment_prior=_prior_from_json(document["deployment_prior"]),
            threshold=_prior_from_json(document["threshold"]),
            threshold_rule=document["threshold_rule"],
            sentences=tuple(document["sentences"]),
        )


def _prior_to_json(prior: Prior | Threshold) -> float | list[float]:
    """A number, or a list for K classes."""
    return prior if isinstance(prior, float) else list(prior)


def _prior_from_json(document: float | list[float]) -> Prior:
    """Rebuild from :func:`_prior_to_json`, to the bit."""
    return tuple(document) if isinstance(document, list) else document
