"""The gate: the stack is kept only if it is not worse than the best single member, out of fold.

With few labels a fitted combination can be worse than one of its inputs, so both are compared by cross-fitted
logits. The best member is chosen on all rows, which favours it slightly: in doubt, the simpler model wins.
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.rows import LabelArray
from ensemble.logistic import Float64Array
from ensemble.stacking.quality import Quality, quality


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided, and on which figures.

    Attributes:
        keep_stack: False means that the best single member is the ensemble.
        best_member: its name.
        stack: the stack's cross-fitted quality.
        single: the best member's cross-fitted quality.
        sentence: the decision with its figures, for people.
    """

    keep_stack: bool
    best_member: str
    stack: Quality
    single: Quality
    sentence: str


def decide_gate(
    stack_logits: Float64Array, single_logits: Float64Array, labels: LabelArray, best_member: str
) -> GateDecision:
    """Keep the stack if neither its log loss *nor* its average precision is worse.

    Args:
        stack_logits: ``[N]`` or ``[N, K]`` cross-fitted logits of the stack.
        single_logits: the same of the best single member's own logistic.
        labels: ``[N]``.
        best_member: its name.
    """
    stack, single = quality(stack_logits, labels), quality(single_logits, labels)
    # The tolerance is for sums in a different order, which differ in the last digits.
    loss_ok = stack.log_loss <= single.log_loss + 1e-9
    precision_ok = stack.average_precision >= single.average_precision - 1e-9
    figures = f"stack: {stack}; '{best_member}': {single}"
    if loss_ok and precision_ok:
        sentence = (
            f"The stack is kept: out of fold it is not worse than the best single member, '{best_member}' "
            f"({figures})."
        )
    else:
        worse = [name for name, ok in (("log loss", loss_ok), ("average precision", precision_ok)) if not ok]
        sentence = (
            f"The stack is dropped and '{best_member}' alone is the ensemble: out of fold the stack's "
            f"{' and '.join(worse)} {'is' if len(worse) == 1 else 'are'} worse ({figures})."
        )
    return GateDecision(loss_ok and precision_ok, best_member, stack, single, sentence)
