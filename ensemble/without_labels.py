"""Fit an ensemble where no minority image is labelled: normal images alone, or images nobody has looked at.

There is nothing to learn weights from, so every member counts alike, and nothing to calibrate a probability
on. What can be promised rests on the normal images: at most a share alpha of them is decided to be anything
else.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from contracts.errors import DataError, UsageError, nearest_match
from contracts.regime import Regime
from contracts.scores import ScoreTable
from ensemble.conformal import ConformalClass
from ensemble.fitted import NO_PROBABILITY, FittedEnsemble
from ensemble.stacking.combination import LinearCombination
from ensemble.stacking.stacker import cross_fit
from ensemble.stacking.training_scores import TrainingScores
from ensemble.stacking.transform import ColumnTransform
from ensemble.threshold_rule import ThresholdRule, parse_rule

DEFAULT_ALPHA = 0.01
"""Share of false alarms where the recipe's rule is the one that needs no decision by the user, min_hter."""


def fit_without_labels(
    oof: ScoreTable,
    *,
    regime: Regime,
    threshold_rule: str = "min_hter",
    member: str | None = None,
) -> FittedEnsemble:
    """Fit the mean of all members' standardised scores, or one member alone, and its p_normal.

    Args:
        oof: complete out-of-fold table, all of whose rows are normal or taken to be.
        regime: ``normal_only`` or ``unlabelled``; decides what is said, not what is fitted.
        threshold_rule: ``false_alarms<=A``; ``min_hter``, which needs labels, stands for
            ``false_alarms<=0.01``.
        member: use this member alone; None for all of them.

    Returns:
        The ensemble. It has no calibrator and no priors; its threshold is alpha, never less than
        ``1 / (n + 1)`` for n independent images.

    Raises:
        DataError: there are labelled minority rows or more than two classes, too few folds, or the rule needs
            labels.
        ModelError: the table is incomplete or inconsistent.
        UsageError: there is no such rule or member.
    """
    _check_classes(oof)
    training = TrainingScores.from_table(oof, labelled=False)
    names = [block.member for block in training.blocks]
    if member is not None and member not in names:
        raise UsageError(
            f"ensemble: no member '{member}' among {', '.join(names)}.{nearest_match(member, names)} "
            "Train it first or name another."
        )
    method = partial(mean_of_scores, member=member)
    rule = _false_alarm_rule(threshold_rule, oof.class_names[-1])
    normal = ConformalClass.fit(cross_fit(training, method), training.groups)
    alpha = max(rule.value, normal.least)
    return FittedEnsemble(
        method="mean_of_scores" if member is None else f"single:{member}",
        columns=oof.columns,
        class_names=oof.class_names,
        combination=method(training),
        calibrator=None,
        trained_prior=None,
        deployment_prior=None,
        threshold=alpha,
        threshold_rule=rule.text,
        normal=normal,
        sentences=(
            *_fusion_sentences(names, member),
            NO_PROBABILITY,
            normal.sentence,
            _alpha_sentence(rule.value, normal, oof.class_names[-1]),
            *_unlabelled_sentences(regime),
        ),
    )


def mean_of_scores(training: TrainingScores, member: str | None = None) -> LinearCombination:
    """The mean of the standardised columns, of all members or of one; the others get a weight of 0."""
    chosen = np.array([member in (None, column.member) for column in training.columns], dtype=np.float64)
    weights = chosen[:, None] / chosen.sum()
    return LinearCombination(ColumnTransform.fit(training), weights, np.zeros(1))


def _check_classes(oof: ScoreTable) -> None:
    """Refuse what this way of fitting is not for.

    Raises:
        DataError: more than two classes, or labelled minority rows, which would be wasted.
    """
    minority = oof.class_names[-1]
    if len(oof.class_names) > 2:
        raise DataError(
            f"ensemble: {len(oof.class_names)} classes but no labelled image of '{minority}'; without one, "
            f"only normal images and the rest can be told apart. Add images of '{minority}', or state two "
            "classes."
        )
    n_minority = int((oof.labels == 1).sum())
    if n_minority:
        raise DataError(
            f"ensemble: {n_minority} rows are labelled '{minority}', so it must be fitted with labels, not "
            "without."
        )


def _false_alarm_rule(text: str, minority: str) -> ThresholdRule:
    """The rule on p_normal that a recipe's rule stands for where there are no labels.

    Raises:
        DataError: the rule weighs misses, of which nothing is known.
    """
    rule = parse_rule(text)
    if rule.kind == "min_hter":
        return parse_rule(f"false_alarms<={DEFAULT_ALPHA:g}")
    if rule.kind != "false_alarm_budget":
        raise DataError(
            f"threshold rule '{rule.text}' cannot be set: it weighs misses, and no image of '{minority}' is "
            f"labelled yet. Use false_alarms<={DEFAULT_ALPHA:g}, or add images of '{minority}'."
        )
    return rule


def _fusion_sentences(names: list[str], member: str | None) -> tuple[str, ...]:
    """How many members the score is the mean of; nothing for one alone."""
    if member is not None or len(names) == 1:
        return ()
    return (
        f"The score is the mean of {len(names)} members' standardised scores; weights need labelled images.",
    )


def _alpha_sentence(asked: float, normal: ConformalClass, minority: str) -> str:
    """What alpha promises, and that it had to be raised if so."""
    alpha = max(asked, normal.least)
    promise = (
        f"An image is decided '{minority}' where p_normal is at most {alpha:.4g}: on average no more than "
        "this share of new normal images, if they resemble those given."
    )
    if alpha == asked:
        return promise
    # The 1e-9 undoes rounding: 1 / 0.01 must not count as more than 100.
    needed = math.ceil(1.0 / asked - 1e-9) - 1
    return (
        f"A share of {asked:.4g} false alarms needs {needed} independent normal images, and there are "
        f"{normal.n}; the least they support is used. {promise}"
    )


def _unlabelled_sentences(regime: Regime) -> tuple[str, ...]:
    """What it costs that some of the images may not be normal."""
    if regime != "unlabelled":
        return ()
    return (
        "Nobody has said that these images are normal. Where some are not, they raise p_normal: fewer images "
        "are decided than could be, never more.",
    )
