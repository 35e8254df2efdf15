"""What so few images of the minority can and cannot support, said before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.regime import Regime
from contracts.text import number_of
from imagedata.manifest import Manifest
from imagedata.sampling import INDEPENDENT_FOR_A_TEST

CONFORMAL_LEVELS = (0.1, 0.05, 0.01)
"""Error levels of class-conditional conformal prediction that are spoken of."""

_ROWS_PER_COEFFICIENT = 10  # positives that a coefficient of the stacker wants; Peduzzi et al. 1996
_RECALL = 0.9
_CLAIMED_RECALLS = (0.99, 0.95, 0.9)
_SIGNIFICANCE = 0.05
_WANTED_FALSE_ALARMS = 0.05
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


def facts_of_rows(manifest: Manifest, folds: int) -> dict[str, Any]:
    """:func:`imbalance_facts` of what training makes of a data set."""
    independent: dict[str, set[str]] = {name: set() for name in manifest.class_names}
    for row in manifest.usable("train"):
        independent[row.label].add(row.group)
    groups = {name: len(found) for name, found in independent.items()}
    train, test = manifest.counts("train"), manifest.counts("test")
    return imbalance_facts(train, test, groups, manifest.class_names[-1], folds, manifest.unlabelled)


def recall_claims() -> dict[float, int]:
    """Recall → images that must all be found to claim it with 95 % confidence.

    The smallest n with recall ** n <= 5 %, which is where Clopper-Pearson's one-sided bound of n of n lies.
    """
    return {recall: math.ceil(math.log(_SIGNIFICANCE) / math.log(recall)) for recall in _CLAIMED_RECALLS}


def imbalance_facts(
    train: Mapping[str, int],
    test: Mapping[str, int],
    groups: Mapping[str, int],
    minority: str,
    folds: int,
    unlabelled: bool = False,
) -> dict[str, Any]:
    """Counts, ratio, and what they support.

    Args:
        train: class → usable training images, minority last.
        test: class → test images; all 0 where none are held out.
        groups: class → independent training images: patients, lots, or pictures.
        minority: the minority class.
        folds: of the recipe.
        unlabelled: nobody knows the labels.

    Returns:
        ``train``, ``test``, ``regime``, ``measured`` (``test_set`` or ``cross_validation``), ``ratio``
        (majority images for each of the minority), ``positives``, ``most_folds``, ``calibrator`` (None
        without the minority), ``conformal`` (level → possible), ``least_p_normal``, ``false_alarms``
        (level → possible), ``recall_claims`` (recall → images that must all be found), ``recall_interval``
        at a recall of 0.9, and ``support``, the sentences.
    """
    positives = train[minority]
    normal = sum(count for name, count in groups.items() if name != minority)
    others = sum(count for name, count in train.items() if name != minority)
    family = calibrator_family(positives) if len(train) == 2 else "temperature"
    counted = _Counted(minority, positives, groups[minority], normal, sum(test.values()), folds, len(train))
    if positives:
        support = _support(counted, family, min(groups.values()))
    else:
        support = _support_without_minority(counted, unlabelled=unlabelled)
    support.append(_support_of_p_normal(counted))
    interval, about_recall = _recall(counted, test[minority])
    regime: Regime = "labelled" if positives else "unlabelled" if unlabelled else "normal_only"
    return {
        "train": dict(train),
        "test": dict(test),
        "regime": regime,
        "measured": "test_set" if any(test.values()) else "cross_validation",
        "positives": positives,
        "ratio": others / positives if positives else None,
        "most_folds": min(groups.values()) if len(train) > 2 else normal,
        "calibrator": family if positives else None,
        "conformal": {f"{level:g}": _is_possible(positives, level) for level in CONFORMAL_LEVELS},
        "least_p_normal": least_conformal_level(normal),
        "false_alarms": {f"{level:g}": _is_possible(normal, level) for level in CONFORMAL_LEVELS},
        "recall_claims": {f"{recall:g}": n for recall, n in recall_claims().items()},
        "recall_interval": interval,
        "support": [
            {"name": s.name, "sentence": s.sentence, "is_short": s.is_short}
            for s in (*support, *about_recall)
        ],
    }


@dataclass(frozen=True)
class _Counted:
    """Counts that the sentences speak of.

    Attributes:
        minority: its name.
        positives: its training images.
        independent: its groups.
        normal: groups of all other classes.
        n_test: test images.
        folds: of the recipe.
        n_classes: number of classes.
    """

    minority: str
    positives: int
    independent: int
    normal: int
    n_test: int
    folds: int
    n_classes: int

    @property
    def images(self) -> str:
        """The minority's training images in words."""
        return number_of(self.positives, "training image")


def _support_without_minority(counted: _Counted, *, unlabelled: bool) -> list[Support]:
    """What can be done before the first image of the minority."""
    minority = counted.minority
    about_labels = (
        "Nobody has looked at the images: all are taken to be normal. Those that are not tend to make "
        "p_normal too large, so that too few images are flagged. The result is a ranking to look through."
        if unlabelled
        else f"All images are normal: members learn what is usual, and {minority} is whatever is not."
    )
    return [
        Support("labels", about_labels, unlabelled),
        Support(
            "supervision",
            f"No supervised member is trained, and one-class members are fused by the plain mean of their "
            f"standardised scores. From the first image of {minority} on supervised ones are trained too.",
            True,
        ),
        Support(
            "calibrator",
            f"No probability: it takes images of {minority} to calibrate one. The file gives p_normal, and "
            "decides by a share of false alarms.",
            True,
        ),
    ]


def _support_of_p_normal(counted: _Counted) -> Support:
    """What the normal images can promise, with or without the minority."""
    normal = counted.normal
    levels = ", ".join(f"{level:g} {_possible(normal, level)}" for level in CONFORMAL_LEVELS)
    return Support(
        "p_normal",
        f"{normal} independent normal images let p_normal, the share of normal images that look as unusual, "
        f"fall to {least_conformal_level(normal):.3g}, and keep shares of false alarms of: {levels}.",
        not _is_possible(normal, _WANTED_FALSE_ALARMS),
    )


def _recall(counted: _Counted, n_test: int) -> tuple[list[float] | None, list[Support]]:
    """How well a recall would be known, and the sentences about it."""
    from evaluation.comparison import clopper_pearson

    minority, said = counted.minority, []
    if not counted.n_test and counted.n_classes == 2:
        held_out = "No test set is held out"
        if counted.independent < INDEPENDENT_FOR_A_TEST:
            there = "is 1" if counted.independent == 1 else f"are {counted.independent}"
            held_out += (
                f", which takes {INDEPENDENT_FOR_A_TEST} independent images of {minority}; there {there}"
            )
        measured = ", and figures are cross-validated" if counted.positives else ""
        said.append(Support("held_out", f"{held_out}. Every image trains{measured}.", False))
    judged, where = (n_test, "test") if counted.n_test else (counted.positives, "cross-validated")
    interval = None
    if judged:
        low, high = clopper_pearson(_RECALL * judged, judged)
        interval = [low, high]
        images = number_of(judged, f"{where} image")
        said.append(
            Support(
                "recall",
                f"A recall of {_RECALL:.0%} on {images} of {minority} would be known to "
                f"lie between {low:.1%} and {high:.1%} (Clopper-Pearson, 95 %).",
                high - low > _WIDE,
            )
        )
    claims = ", ".join(f"{n} of {n} for {recall:.0%}" for recall, n in recall_claims().items())
    said.append(
        Support(
            "recall_claim",
            f"To claim a recall with 95 % confidence, so many of {minority} must all be found: {claims}.",
            False,
        )
    )
    return interval, said


def _support(counted: _Counted, family: str, fewest: int) -> list[Support]:
    """What the training images can carry: folds, calibrator, weights, conformal sets, supervision."""
    from ensemble.calibration.fitting import BETA_FROM, ISOTONIC_FROM, ROUGH_BELOW

    minority, positives = counted.minority, counted.positives
    support = [
        _support_of_folds(counted, fewest),
        Support(
            "calibrator",
            f"{counted.images} of {minority} {'allow' if positives != 1 else 'allows'} a calibrator of the "
            f"family “{family}” (from {BETA_FROM} on beta, {ISOTONIC_FROM} isotonic)."
            + (f" Below {ROUGH_BELOW} its probabilities are rough." if positives < ROUGH_BELOW else "")
            if counted.n_classes == 2
            else f"{counted.n_classes} classes are calibrated by one temperature and an intercept each.",
            positives < ROUGH_BELOW,
        ),
        Support(
            "stacker",
            f"At ten each they carry {positives // _ROWS_PER_COEFFICIENT} weights of a stacker; the fewer "
            "they are, the more its weights are drawn towards equal ones.",
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
                f"With under {_ENOUGH_FOR_SUPERVISION} of {minority}, one-class members tend to win."
                + (
                    " With a single one supervised members are trained, but none can be judged on it."
                    if counted.independent == 1
                    else ""
                ),
                True,
            )
        )
    return support


def _support_of_folds(counted: _Counted, fewest: int) -> Support:
    """Folds: of two classes the majority fills them all, and the minority as many as it can."""
    folds = counted.folds
    if counted.n_classes > 2:
        is_short = fewest < folds
        how = "; it is held out one at a time, and some folds have none" if is_short else ""
        said = f"{folds} folds: the class in the fewest groups has {fewest} independent images{how}."
        return Support("folds", said, is_short)
    normal, independent, minority = counted.normal, counted.independent, counted.minority
    if normal < folds:
        said = f"{folds} folds: {normal} independent normal images, so at most -o folds={max(normal, 2)}."
        return Support("folds", said, True)
    if independent < folds:
        images = number_of(independent, "independent image")
        return Support("folds", f"{folds} folds: {images} of {minority}, held out one at a time.", True)
    said = f"{folds} folds: each holds some of {independent} independent images of {minority}."
    return Support("folds", said, False)


def _is_possible(n_positives: int, level: float) -> bool:
    # Rounded first: the ceiling of a quotient that is a whole number but for rounding would ask for one image
    # more.
    return n_positives >= math.ceil(round(1.0 / level, 9)) - 1


def _possible(n_positives: int, level: float) -> str:
    if _is_possible(n_positives, level):
        return "yes"
    return f"no, which needs {math.ceil(round(1.0 / level, 9)) - 1}"
