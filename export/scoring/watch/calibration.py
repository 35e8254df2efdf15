"""Whether probabilities still hold, watched image by image as answers come in: a risk-adjusted CUSUM.

Of every answered image the log-likelihood ratio is added of "the odds are twice (or half) as high as said"
against "they are as said" (Steiner, Cook, Farewell & Treasure 2000, section 2); the sum never falls below 0.
It may be run on images that were chosen by their scores, such as a review queue: each is judged by its own
probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.scoring.watch.reference import FloatArray64

FALSE_ALARMS = 0.01
"""Chance that a whole sequence of answers raises an alarm although all probabilities hold."""

LEAST_ANSWERS = 20

_ODDS = 2.0
_SIMULATED = 2000
_AT_ONCE = 100
_SMALLEST_P = 1e-6


@dataclass(frozen=True)
class CalibrationWatch:
    """A CUSUM over answered images, in the order in which they are given.

    Attributes:
        more: ``[N]`` evidence so far that the minority is more frequent than said; 0 or more.
        fewer: ``[N]`` the same for less frequent.
        limit: from which on either is an alarm.
        first_alarm: position of the image at which it was passed first; None for no alarm.
        expected: of the minority, by the probabilities.
        found: of the minority, by the answers.
    """

    more: FloatArray64
    fewer: FloatArray64
    limit: float
    first_alarm: int | None
    expected: float
    found: int

    @property
    def answers(self) -> int:
        """N."""
        return len(self.more)

    @property
    def sentence(self) -> str:
        """What it says, for people."""
        counts = (
            f"{self.found:,} of {self.answers:,} answered images are of the minority, "
            f"{self.expected:,.1f} were expected"
        )
        if self.first_alarm is None:
            return f"Probabilities hold as far as the answers tell: {counts}."
        says = "too low" if self.found > self.expected else "too high"
        return (
            f"Probabilities do not hold: {counts}. They are {says}; the evidence passed its limit at answer "
            f"{self.first_alarm + 1:,} (chance of such an alarm while they hold: {FALSE_ALARMS:.0%})."
        )

    def to_json(self) -> dict[str, Any]:
        """Of the JSON document of ``monitor``."""
        return {
            "answers": self.answers,
            "found": self.found,
            "expected": self.expected,
            "limit": self.limit,
            "alarm": self.first_alarm is not None,
            "first_alarm": self.first_alarm,
            "more": self.more.tolist(),
            "fewer": self.fewer.tolist(),
            "false_alarms": FALSE_ALARMS,
            "sentence": self.sentence,
        }


def watch_calibration(
    probability: FloatArray64, is_minority: npt.NDArray[np.bool_], seed: int = 0
) -> CalibrationWatch:
    """Run the CUSUM.

    The limit is found by simulation: answers are drawn as the probabilities say, and at most
    :data:`FALSE_ALARMS` of such sequences pass it anywhere.

    Args:
        probability: ``[N]`` of the minority as said, 0…1, in the order of time.
        is_minority: ``[N]`` the answers.
        seed: of the simulation.
    """
    p = np.clip(probability, _SMALLEST_P, 1.0 - _SMALLEST_P)
    random = np.random.default_rng(seed)
    highest: list[FloatArray64] = []
    for _ in range(_SIMULATED // _AT_ONCE):
        drawn = random.random((_AT_ONCE, len(p))) < p
        sums = [_sums(p, drawn, odds) for odds in (_ODDS, 1.0 / _ODDS)]
        highest.append(np.maximum(*(each.max(axis=1) for each in sums)))
    limit = float(np.quantile(np.concatenate(highest), 1.0 - FALSE_ALARMS, method="higher"))
    more, fewer = (_sums(p, is_minority[None], odds)[0] for odds in (_ODDS, 1.0 / _ODDS))
    passed = np.flatnonzero(np.maximum(more, fewer) > limit)
    return CalibrationWatch(
        more,
        fewer,
        limit,
        int(passed[0]) if len(passed) else None,
        float(probability.sum()),
        int(is_minority.sum()),
    )


def _sums(p: FloatArray64, answers: npt.NDArray[np.bool_], odds: float) -> FloatArray64:
    """``[S, N]`` CUSUM of each row of answers: ``C_t = max(0, C_{t-1} + W_t)``, eq. 3 of the paper."""
    weights = np.where(answers, np.log(odds), 0.0) - np.log1p(p * (odds - 1.0))
    total = np.cumsum(weights, axis=1)
    return np.asarray(total - np.minimum(np.minimum.accumulate(total, axis=1), 0.0), dtype=np.float64)
