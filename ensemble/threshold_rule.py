"""Threshold rules as users write them, for example ``cost:1:10`` or ``recall>=0.95``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from contracts.errors import UsageError, nearest_match

RuleKind = Literal["min_hter", "max_f1", "cost", "recall_floor", "false_alarm_budget"]

EXAMPLES = ("min_hter", "max_f1", "cost:1:10", "recall>=0.95", "false_alarms<=0.01")

_NUMBER = r"([0-9.eE+-]+)"


@dataclass(frozen=True)
class ThresholdRule:
    """A parsed rule.

    Attributes:
        kind: which rule.
        text: as the user wrote it, for messages and metadata.
        value: for ``recall_floor`` the smallest recall, for ``false_alarm_budget`` the largest
            false-positive rate, for ``cost`` the threshold C_FP / (C_FP + C_FN); 0 otherwise.
    """

    kind: RuleKind
    text: str
    value: float = 0.0

    @property
    def costs(self) -> tuple[float, float] | None:
        """Costs of a false alarm and of a miss as the user wrote them; None for rules that name none."""
        if self.kind != "cost":
            return None
        _, false_alarm, miss = self.text.split(":")
        return float(false_alarm), float(miss)


def parse_rule(text: str) -> ThresholdRule:
    """Parse a rule.

    Args:
        text: one of ``min_hter``, ``max_f1``, ``cost:FP:FN`` (costs of a false alarm and of a miss),
            ``recall>=R``, ``false_alarms<=F`` with 0 < R, F < 1.

    Raises:
        UsageError: there is no such rule, or a number is outside its range.
    """
    compact = text.replace(" ", "")
    if compact == "min_hter":
        return ThresholdRule("min_hter", compact)
    if compact == "max_f1":
        return ThresholdRule("max_f1", compact)
    if match := re.fullmatch(f"cost:{_NUMBER}:{_NUMBER}", compact):
        false_alarm, miss = (_number(part, text) for part in match.groups())
        if not (0 < false_alarm < float("inf") and 0 < miss < float("inf")):
            raise UsageError(
                f"threshold rule '{text}': costs must be above 0. Write, for example, cost:1:10."
            )
        return ThresholdRule("cost", compact, false_alarm / (false_alarm + miss))
    if match := re.fullmatch(f"recall>={_NUMBER}", compact):
        return ThresholdRule("recall_floor", compact, _share(match.group(1), text, "recall>=0.95"))
    if match := re.fullmatch(f"false_alarms<={_NUMBER}", compact):
        return ThresholdRule(
            "false_alarm_budget", compact, _share(match.group(1), text, "false_alarms<=0.01")
        )
    raise UsageError(
        f"threshold rule '{text}' does not exist.{nearest_match(compact, EXAMPLES)} "
        f"Use one of: {', '.join(EXAMPLES)}."
    )


def _number(part: str, text: str) -> float:
    """The number; if it is none, the error names the rule."""
    try:
        return float(part)
    except ValueError:
        raise UsageError(
            f"threshold rule '{text}': '{part}' is not a number. Write, for example, 0.95."
        ) from None


def _share(part: str, text: str, example: str) -> float:
    """A number strictly between 0 and 1."""
    value = _number(part, text)
    if not 0.0 < value < 1.0:
        raise UsageError(
            f"threshold rule '{text}': {value:g} is not strictly between 0 and 1. "
            f"Write, for example, {example}."
        )
    return value


def check_rule(rule: ThresholdRule, n_classes: int) -> None:
    """Refuse a rule that is not defined for this number of classes.

    Raises:
        UsageError: the rule is about one class against the rest, and there are more than two.
    """
    if n_classes > 2 and rule.kind not in {"min_hter", "cost"}:
        raise UsageError(
            f"threshold rule '{rule.text}' is for two classes, and there are {n_classes}. Use min_hter "
            "(all classes count equally), cost:1:1 (all rows count equally) or cost:FP:FN."
        )


def class_thresholds(rule: ThresholdRule, shares: tuple[float, ...]) -> tuple[tuple[float, ...], str]:
    """Thresholds of K > 2 classes; the class with the largest p_k / threshold_k is decided.

    With calibrated probabilities both rules follow from decision theory (Elkan 2001) and need no rows.
    ``min_hter`` minimises the mean of the classes' miss rates (1 - balanced accuracy): the thresholds are the
    class shares that p refers to (Menon et al. 2013; as in logit adjustment). With ``cost:FP:FN``, a missed
    minority row costs FN and any other error FP: the threshold is FP for the minority and FN for the others,
    and ``cost:1:1`` decides the most probable class. For two classes, p and 1 - p with thresholds t and 1 -
    t, this is p >= t.

    Args:
        rule: one that :func:`check_rule` accepts.
        shares: ``[K]`` class shares that the probabilities refer to, minority last.

    Returns:
        ``[K]`` thresholds that sum to 1, and a sentence.

    Raises:
        UsageError: see :func:`check_rule`.
    """
    check_rule(rule, len(shares))
    if rule.kind == "min_hter":
        return shares, (
            f"The class whose probability is the largest multiple of its share is decided ({rule.text}: "
            "all classes count equally)."
        )
    false_alarm, miss = rule.value, 1.0 - rule.value
    total = miss * (len(shares) - 1) + false_alarm
    thresholds = (*[miss / total] * (len(shares) - 1), false_alarm / total)
    return (
        thresholds,
        f"The class with the least expected cost is decided ({rule.text}: false alarm to miss).",
    )
