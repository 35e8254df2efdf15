"""What so few images of the minority can and cannot support, said before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONFORMAL_LEVELS = (0.1, 0.05, 0.01)
"""Error levels of class-conditional conformal prediction that are spoken of."""

_ROWS_PER_COEFFICIENT = 10  # positives that a coefficient of the stacker wants; Peduzzi et al. 1996
_RECALL = 0.9
_WIDE = 0.2
_ENOUGH_FOR_SUPERVISION = 10  # below it one-class members tend to win; DRA's table 1 (Ding et al. 2022)


@dataclass(frozen=True)
class Support:
    """One sentence about what the counts allow.

    Attributes:
        name: for machines.
        sentence: for people.
        is_short: it falls short of what results would want.
    """

    name: str
    sentence: str
    is_short: bool


def least_conformal_level(n_positives: int) -> float:
    """Smallest error level that class-conditional conformal prediction can promise: n >= 1 / level - 1."""
    return 1.0 / (n_positives + 1)


def calibrator_family(n_positives: int) -> str:
    """Which form :func:`ensemble.calibration.fitting.fit_calibrator` takes for so many positives."""
    from ensemble.calibration.fitting import BETA_FROM, ISOTONIC_FROM

    for limit, family in ((BETA_FROM, "Platt"), (ISOTONIC_FROM, "beta")):
        if n_positives < limit:
            return family
    return "isotonic"


def imbalance_facts(
    train: Mapping[str, int],
    test: Mapping[str, int],
    groups: Mapping[str, int],
    minority: str,
    folds: int,
) -> dict[str, Any]:
    """Counts, ratio, and what they support.

    Args:
        train: class → usable training images, minority last.
        test: class → test images; all 0 where none could be drawn.
        groups: class → independent training images: patients, lots, or pictures.
        minority: the minority class.
        folds: of the recipe.

    Returns:
        ``train``, ``test``, ``ratio`` (majority images for each of the minority), ``positives``,
        ``most_folds``, ``calibrator``, ``conformal`` (level → possible), ``recall_interval`` at a recall
        of 0.9, and ``support``, the sentences.
    """
    from evaluation.comparison import clopper_pearson

    family = calibrator_family(train[minority]) if len(train) == 2 else "temperature"
    positives, n_test = train[minority], test[minority]
    others = sum(count for name, count in train.items() if name != minority)
    most_folds = min(groups.values())
    support = _support(family, positives, len(train), minority, most_folds, folds)
    interval = None
    if n_test:
        low, high = clopper_pearson(_RECALL * n_test, n_test)
        interval = [low, high]
        support.append(
            Support(
                "recall",
                f"A recall of {_RECALL:.0%} on {n_test} test images of {minority} would be known to "
                f"lie between {low:.1%} and {high:.1%} (Clopper-Pearson, 95 %).",
                high - low > _WIDE,
            )
        )
    return {
        "train": dict(train),
        "test": dict(test),
        "positives": positives,
        "ratio": others / positives if positives else None,
        "most_folds": most_folds,
        "calibrator": family,
        "conformal": {f"{level:g}": _is_possible(positives, level) for level in CONFORMAL_LEVELS},
        "recall_interval": interval,
        "support": [{"name": s.name, "sentence": s.sentence, "is_short": s.is_short} for s in support],
    }


def _support(
    family: str, positives: int, n_classes: int, minority: str, most_folds: int, folds: int
) -> list[Support]:
    """What the training images can carry: folds, calibrator, weights, conformal sets, supervision."""
    from ensemble.calibration.fitting import BETA_FROM, ISOTONIC_FROM, ROUGH_BELOW

    support = [
        Support(
            "folds",
            f"{folds} folds: the class in the fewest groups has {most_folds} independent images"
            + ("." if most_folds >= folds else f", so at most -o folds={max(most_folds, 2)}."),
            most_folds < folds,
        ),
        Support(
            "calibrator",
            f"{positives} training images of {minority} allow a calibrator of the family "
            f"“{family}” (from {BETA_FROM} on beta, {ISOTONIC_FROM} isotonic)."
            + (f" Below {ROUGH_BELOW} its probabilities are rough." if positives < ROUGH_BELOW else "")
            if n_classes == 2
            else f"{n_classes} classes are calibrated by one temperature and an intercept each.",
            positives < ROUGH_BELOW,
        ),
        Support(
            "stacker",
            f"At ten each they carry {positives // _ROWS_PER_COEFFICIENT} weights of a stacker.",
            positives < 2 * _ROWS_PER_COEFFICIENT,
        ),
        Support(
            "conformal",
            f"Conformal sets of {minority} can promise errors down to "
            f"{least_conformal_level(positives):.3g}: "
            + ", ".join(f"{level:g} {_possible(positives, level)}" for level in CONFORMAL_LEVELS)
            + ".",
            not _is_possible(positives, CONFORMAL_LEVELS[0]),
        ),
    ]
    if positives < _ENOUGH_FOR_SUPERVISION:
        support.append(
            Support(
                "supervision",
                f"With under {_ENOUGH_FOR_SUPERVISION} of {minority}, one-class members tend to win.",
                True,
            )
        )
    return support


def _is_possible(n_positives: int, level: float) -> bool:
    # Rounded first: the ceiling of a quotient that is a whole number but for rounding would ask for one image
    # more.
    return n_positives >= math.ceil(round(1.0 / level, 9)) - 1


def _possible(n_positives: int, level: float) -> str:
    if _is_possible(n_positives, level):
        return "yes"
    return f"no, which needs {math.ceil(round(1.0 / level, 9)) - 1}"
