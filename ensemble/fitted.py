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
from contracts.triage import triage_of
from ensemble.calibration.calibrator import Calibrator
from ensemble.calibration.fitting import calibrator_from_json, calibrator_to_json
from ensemble.conformal import ConformalClass, fused_score
from ensemble.logistic import Float64Array
from ensemble.prior import Prior, check_prior, probability, shift_logit
from ensemble.stacking.combination import LinearCombination
from ensemble.triage import TriageLevels

FORMAT = "outnumbered-ensemble-4"

# A threshold on the minority's probability for two classes; K numbers, minority last, for more. Without
# labels it is the share of false alarms, on p_normal.
Threshold = float | tuple[float, ...]


NO_PROBABILITY = "Probability needs labelled minority images; none is known yet."
"""Why a run without labels has none, for people."""


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

    Where no minority image is labelled yet there is nothing to calibrate on: calibrator, priors, p_minority
    and triage are None together, and the decision rests on p_normal alone.

    Attributes:
        method: ``stack``, ``guarded_stack``, ``best_single``, ``plain_mean``, ``greedy`` or
            ``single:<member>``; without labels ``mean_of_scores`` or ``single:<member>``.
        columns: the M score columns it reads, in order.
        class_names: K names, minority last.
        combination: raw scores → logit; without labels, the mean of standardised scores.
        calibrator: logit → calibrated logit at the trained prior; None without labels.
        trained_prior: class shares of the out-of-fold rows; None without labels.
        deployment_prior: class shares that the probabilities refer to by default; None without labels.
        threshold: on the minority's probability at the deployment prior; the minority is decided where
            ``p >= threshold``. For K > 2 there is one per class, and the class with the largest
            p_k / threshold_k is decided. Without labels it is alpha, the share of normal images that may be
            decided otherwise, and the minority is decided where ``p_normal <= threshold``.
        threshold_rule: as the user wrote it.
        normal: fused score → p_normal.
        sentences: on gate, calibrator, prior, threshold, p_normal and triage, for people.
        minority: minus fused score → p_minority; None without labels.
        levels: of triage; None without labels.
    """

    method: str
    columns: tuple[ScoreColumn, ...]
    class_names: tuple[str, ...]
    combination: LinearCombination
    calibrator: Calibrator | None
    trained_prior: Prior | None
    deployment_prior: Prior | None
    threshold: Threshold
    threshold_rule: str
    normal: ConformalClass
    sentences: tuple[str, ...]
    minority: ConformalClass | None = None
    levels: TriageLevels | None = None

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def has_probability(self) -> bool:
        """Whether labelled minority images were there to calibrate a probability on."""
        return self.calibrator is not None

    @property
    def calibration(self) -> tuple[Calibrator, Prior, Prior]:
        """Calibrator, trained prior and deployment prior, which exist together.

        Raises:
            ModelError: there is no probability yet.
        """
        if self.calibrator is None or self.trained_prior is None or self.deployment_prior is None:
            raise ModelError(
                "ensemble: it gives no probability. " + NO_PROBABILITY + " Add some with 'update --missed'."
            )
        return self.calibrator, self.trained_prior, self.deployment_prior

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
        calibrator, _, _ = self.calibration
        return calibrator(self.combination.logits(scores))

    def fused_scores(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """``[N, M]`` scores → ``[N]`` one number an image, higher = more like the minority.

        It is the combination's log-odds of the minority against the rest, or the mean of standardised scores
        where there are no labels; what p_normal ranks.
        """
        return fused_score(self.combination.logits(scores))

    def p_normal(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """``[N]`` share of normal images that look at least as odd; see :mod:`ensemble.conformal`.

        Args:
            scores: ``[N, M]`` raw member scores in the order of :attr:`columns`.

        Raises:
            ModelError: wrong number of columns, or scores that are not finite.
        """
        return self.normal(self.fused_scores(scores))

    @property
    def conformal_minority(self) -> tuple[ConformalClass, TriageLevels]:
        """What p_minority and triage follow from.

        Raises:
            ModelError: there is no labelled minority image yet.
        """
        if self.minority is None or self.levels is None:
            raise ModelError(
                "ensemble: it has no p_minority and no triage: no minority image is labelled yet."
            )
        return self.minority, self.levels

    def p_minority(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """``[N]`` share of minority images that look at least as normal; see :mod:`ensemble.conformal`.

        Args:
            scores: ``[N, M]``.

        Raises:
            ModelError: as :meth:`p_normal`, or no minority image is labelled.
        """
        minority, _ = self.conformal_minority
        return minority(-self.fused_scores(scores))

    def triage(self, scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
        """``[N]`` position in :data:`contracts.triage.TRIAGE_NAMES`; raises as :meth:`p_minority`."""
        _, levels = self.conformal_minority
        return triage_of(self.p_normal(scores), self.p_minority(scores), *levels.rates)

    def p_minority_bounds(
        self, scores: npt.NDArray[np.floating[Any]], tolerance: float
    ) -> tuple[Float64Array, Float64Array]:
        """As :meth:`p_normal_bounds`, of p_minority."""
        minority, _ = self.conformal_minority
        fused = self.fused_scores(scores)
        margin = tolerance * max(float(fused.std()), float(np.std(self.normal.knots)), 1e-6)
        return minority(margin - fused), minority(-margin - fused)

    def p_normal_bounds(
        self, scores: npt.NDArray[np.floating[Any]], tolerance: float
    ) -> tuple[Float64Array, Float64Array]:
        """``[N]`` least and ``[N]`` largest p_normal if the fused score is off by up to ``tolerance``.

        p_normal falls in steps: of two ways of computing the same score, one may land on the next step.

        Args:
            scores: ``[N, M]``.
            tolerance: in standard deviations of the fused scores, of these images or of the calibration's.
        """
        fused = self.fused_scores(scores)
        margin = tolerance * max(float(fused.std()), float(np.std(self.normal.knots)), 1e-6)
        return self.normal(fused + margin), self.normal(fused - margin)

    def predict(
        self, scores: npt.NDArray[np.floating[Any]], prior: float | Sequence[float] | None = None
    ) -> Float64Array:
        """``[N]`` minority probabilities, or ``[N, K]`` class probabilities for K > 2.

        Args:
            scores: ``[N, M]`` raw member scores in the order of :attr:`columns`.
            prior: deployment class shares that replace :attr:`deployment_prior`.

        Raises:
            ModelError: wrong number of columns, scores that are not finite, or no probability without labels.
            UsageError: the prior is no class share.
        """
        _, trained, usual = self.calibration
        # The calibrator refers to the trained shares; the shift comes after it, so one fitted ensemble serves
        # any prior without refitting.
        deployment = usual if prior is None else check_prior(prior, self.n_classes)
        return probability(shift_logit(self.calibrated_logit(scores), trained, deployment))

    def minority_probability(
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
        with the largest p_k / threshold_k, and the first among equals. Without labels it is the minority
        where p_normal is at most the threshold.

        Args:
            scores: ``[N, M]``.
            prior: replaces :attr:`deployment_prior`.
            threshold: replaces :attr:`threshold`.

        Raises:
            ModelError: a prior where there is no probability to shift.
        """
        limit = self.threshold if threshold is None else threshold
        if not self.has_probability and prior is None:
            return np.asarray(self.p_normal(scores) <= limit, dtype=np.int64)
        return decide_class(self.predict(scores, prior), limit)

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
            "calibrator": None if self.calibrator is None else calibrator_to_json(self.calibrator),
            "trained_prior": _numbers_to_json(self.trained_prior),
            "deployment_prior": _numbers_to_json(self.deployment_prior),
            "threshold": _numbers_to_json(self.threshold),
            "threshold_rule": self.threshold_rule,
            "normal": self.normal.to_json(),
            "minority": None if self.minority is None else self.minority.to_json(),
            "triage": None if self.levels is None else self.levels.to_json(),
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
        calibrator, minority, levels = document["calibrator"], document["minority"], document["triage"]
        return cls(
            method=document["method"],
            columns=tuple(ScoreColumn(**column) for column in document["columns"]),
            class_names=tuple(document["class_names"]),
            combination=LinearCombination.from_json(document["combination"]),
            calibrator=None if calibrator is None else calibrator_from_json(calibrator),
            trained_prior=_tuple_of(document["trained_prior"]),
            deployment_prior=_tuple_of(document["deployment_prior"]),
            threshold=_tuple_of(document["threshold"]),
            threshold_rule=document["threshold_rule"],
            normal=ConformalClass.from_json(document["normal"]),
            sentences=tuple(document["sentences"]),
            minority=None if minority is None else ConformalClass.from_json(minority),
            levels=None if levels is None else TriageLevels(**levels),
        )


def _numbers_to_json(numbers: Prior | Threshold | None) -> float | list[float] | None:
    """A number, a list for K classes, or null."""
    return list(numbers) if isinstance(numbers, tuple) else numbers


def _tuple_of(document: Any) -> Any:
    """Rebuild from :func:`_numbers_to_json`, to the bit; JSON knows no tuples."""
    return tuple(document) if isinstance(document, list) else document
