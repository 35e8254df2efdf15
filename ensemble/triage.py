"""Triage with two guaranteed error rates, or with the share of images that people can look at.

Both classes have a conformal p-value (:mod:`ensemble.conformal`), so an image has a set of classes that it
may be of: those whose p-value is above the class's error rate. {normal} is PASS, {minority} FAIL, both REVIEW
and none NOVEL, like neither (:mod:`contracts.triage`). Of new minority images at most ``miss_rate`` lack the
minority in their set, so that no more are passed; of new normal images at most ``false_alarms`` lack normal,
so that no more fail (class-conditional conformal prediction: Vovk 2012; Sadinle, Lei & Wasserman 2019). Both
hold on average over training sets, for images like those that were labelled.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from contracts.errors import DataError, UsageError, nearest_match

if TYPE_CHECKING:
    # Of types alone: whoever reads a rule, as every command does, need not wait for scipy.
    from ensemble.conformal import ConformalClass
    from ensemble.logistic import Float64Array

DEFAULT_RATE = 0.05
"""Of both errors where nobody asks: 19 labelled images of a class support it."""

EXAMPLES = ("auto", "miss_rate<=0.01,false_alarms<=0.02", "review<=0.05")

_MOST_CANDIDATES = 256
_NUMBER = r"([0-9.eE+-]+)"


@dataclass(frozen=True)
class TriageRule:
    """What was asked for.

    Attributes:
        text: as the user wrote it, without spaces.
        miss_rate: asked for; None where it follows from the images.
        false_alarms: asked for; None likewise.
        review: largest share of images that is left to people; None where rates were asked for, or nothing.
    """

    text: str
    miss_rate: float | None = None
    false_alarms: float | None = None
    review: float | None = None


@dataclass(frozen=True)
class TriageLevels:
    """The two error rates that decide.

    Attributes:
        miss_rate: an image may be of the minority where p_minority is above this.
        false_alarms: an image may be normal where p_normal is above this.
        rule: as the user wrote it.
    """

    miss_rate: float
    false_alarms: float
    rule: str = "auto"

    @property
    def rates(self) -> tuple[float, float]:
        """Both, in the order of :data:`contracts.triage.LEVELS`."""
        return self.miss_rate, self.false_alarms

    def to_json(self) -> dict[str, Any]:
        """JSON document."""
        return {"miss_rate": self.miss_rate, "false_alarms": self.false_alarms, "rule": self.rule}


def parse_triage(text: str) -> TriageRule:
    """Parse a rule.

    Args:
        text: ``auto``, ``miss_rate<=M,false_alarms<=F`` or ``review<=B``, each share above 0 and below 1.

    Raises:
        UsageError: there is no such rule, or a share is none.
    """
    compact = text.replace(" ", "")
    if compact == "auto":
        return TriageRule(compact)
    if match := re.fullmatch(f"miss_rate<={_NUMBER},false_alarms<={_NUMBER}", compact):
        miss_rate, false_alarms = (_share(part, text) for part in match.groups())
        return TriageRule(compact, miss_rate, false_alarms)
    if match := re.fullmatch(f"review<={_NUMBER}", compact):
        return TriageRule(compact, review=_share(match.group(1), text))
    raise UsageError(
        f"triage '{text}' does not exist.{nearest_match(compact, EXAMPLES)} "
        f"Use one of: {'; '.join(EXAMPLES)}."
    )


def _share(part: str, text: str) -> float:
    """A number strictly between 0 and 1; if it is none, the error names the rule."""
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if not 0.0 < value < 1.0:
        raise UsageError(f"triage '{text}': {part} is no share between 0 and 1. Write, for example, 0.05.")
    return value


def fit_levels(
    rule: TriageRule,
    fused: Float64Array,
    is_minority: npt.NDArray[np.bool_],
    normal: ConformalClass,
    minority: ConformalClass,
    prior: float,
) -> TriageLevels:
    """The error rates of a rule; whether the images support them, :func:`require_support` says.

    Args:
        rule: what was asked for.
        fused: ``[N]`` cross-fitted fused scores, those that both p-values were fitted on.
        is_minority: ``[N]``.
        normal: fused score → p_normal.
        minority: minus fused score → p_minority.
        prior: share of the minority where the model works, 0…1; a budget depends on it.
    """
    if rule.miss_rate is not None and rule.false_alarms is not None:
        return TriageLevels(rule.miss_rate, rule.false_alarms, rule.text)
    if rule.review is None:
        # The least that the images support, where they do not support the usual rates.
        return TriageLevels(max(DEFAULT_RATE, minority.least), max(DEFAULT_RATE, normal.least), rule.text)
    p_normal, p_minority = normal(fused), minority(-fused)
    weight = np.where(is_minority, prior / is_minority.sum(), (1.0 - prior) / (~is_minority).sum())
    miss_rates, alarm_rates = (_candidates(p) for p in (p_minority, p_normal))
    may_be_minority = (p_minority[None, :] > miss_rates[:, None]).astype(np.float64)
    may_be_normal = (p_normal[None, :] > alarm_rates[:, None]).astype(np.float64)
    # Left to people: both or none, 1 - a - b + 2 ab of the indicators a and b.
    people = (
        1.0
        - (may_be_minority @ weight)[:, None]
        - (may_be_normal @ weight)[None, :]
        + 2.0 * (may_be_minority * weight) @ may_be_normal.T
    )
    # Both errors count alike; where nothing keeps the budget, what comes nearest to it is judged and said.
    cost = miss_rates[:, None] + alarm_rates[None, :]
    kept = people <= rule.review + 1e-12
    cost = np.where(kept, cost, np.inf) if kept.any() else people
    best = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return TriageLevels(float(miss_rates[best[0]]), float(alarm_rates[best[1]]), rule.text)


def _candidates(p: Float64Array) -> Float64Array:
    """Values that a p-value takes, ascending: each is an error rate that can be kept to the full."""
    distinct = np.unique(p)
    if len(distinct) <= _MOST_CANDIDATES:
        return distinct
    # Small rates are what one asks for, so they lie closest.
    ranks = np.unique(np.geomspace(1, len(distinct), _MOST_CANDIDATES).astype(np.int64)) - 1
    return np.asarray(distinct[ranks])


def require_support(rule: TriageRule, normal: ConformalClass, minority: ConformalClass, name: str) -> None:
    """Refuse error rates that were asked for and that so few labelled images cannot keep.

    Args:
        rule: what was asked for.
        normal: of normal images.
        minority: of minority images.
        name: of the minority class.

    Raises:
        DataError: with the number of independent images that would do.
    """
    asked = (
        (rule.miss_rate, minority, "miss rate", name),
        (rule.false_alarms, normal, "share of false alarms", "normal"),
    )
    for rate, of, what, images in asked:
        # The tolerance undoes rounding: 1 / 20 must support 0.05.
        if rate is None or rate >= of.least * (1.0 - 1e-9):
            continue
        needed = math.ceil(1.0 / rate - 1e-9) - 1
        raise DataError(
            f"triage '{rule.text}': a {what} of {rate:g} takes {needed} independent labelled images of "
            f"'{images}', and there are {of.n}. Ask for {_rounded_up(of.least):g} or more, or label "
            f"{needed - of.n} more."
        )


def _rounded_up(rate: float) -> float:
    """Three decimals, so that the advice can be followed literally."""
    return math.ceil(rate * 1000.0 - 1e-9) / 1000.0


def triage_sentence(levels: TriageLevels, name: str) -> str:
    """What is promised, for people.

    Args:
        levels: that decide.
        name: of the minority class.
    """
    promise = (
        f"Triage: on average at most {levels.miss_rate:.3g} of new images of '{name}' are passed, and at "
        f"most {levels.false_alarms:.3g} of new normal images fail, if they resemble the labelled ones"
    )
    rule = parse_triage(levels.rule)
    if rule.review is not None:
        # Levels that were chosen on the images are no longer promised by the theory that fixes them before.
        return (
            f"{promise}; these are the best rates that leave at most {rule.review:.3g} of the images to "
            "people, chosen on the training images, which makes them a little optimistic."
        )
    if rule.miss_rate is None and max(levels.rates) > DEFAULT_RATE:
        return f"{promise}; so few labelled images support no smaller rates."
    return f"{promise}. --miss-rate with --false-alarms, or --review, ask for other rates."
