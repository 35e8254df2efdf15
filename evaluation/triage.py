"""What triage does with images whose class is known: what is covered, left to people, missed, alarmed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.triage import FAIL, NOVEL, PASS, REVIEW, TRIAGE_NAMES, triage_of
from evaluation.expected import mixed, rate_of

CURVE_RATES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Error rates, asked of both classes alike, at which the curve of misses against review is drawn."""


def triage_figures(
    codes: npt.NDArray[np.int64],
    is_minority: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int64],
    share: float,
) -> dict[str, Any]:
    """Counts and rates; every rate is [value, low, high] with a 95 % interval.

    Args:
        codes: ``[N]`` positions in :data:`contracts.triage.TRIAGE_NAMES`.
        is_minority: ``[N]``; both kinds of rows are there.
        groups: ``[N]`` group index.
        share: of the minority where the model works, at which ``review`` and ``novel`` are stated.

    Returns:
        ``{share, counts, coverage, misses, false_alarms, review, novel}``. ``counts`` is
        ``minority`` and ``normal`` → name → images; ``coverage`` the same two → share whose set holds their
        class. ``misses`` are minority images that are passed, ``false_alarms`` normal images that fail, each
        of all images of its class.
    """
    minority, normal = codes[is_minority], codes[~is_minority]
    mine, others = groups[is_minority], groups[~is_minority]

    def both(code: int) -> list[float]:
        return mixed(share, rate_of(minority == code, mine), rate_of(normal == code, others))

    return {
        "share": share,
        "counts": {"minority": _counts(minority), "normal": _counts(normal)},
        "coverage": {
            "minority": rate_of(np.isin(minority, (FAIL, REVIEW)), mine),
            "normal": rate_of(np.isin(normal, (PASS, REVIEW)), others),
        },
        "misses": rate_of(minority == PASS, mine),
        "false_alarms": rate_of(normal == FAIL, others),
        "review": both(REVIEW),
        "novel": both(NOVEL),
    }


def triage_curve(
    p_normal: npt.NDArray[np.float64],
    p_minority: npt.NDArray[np.float64],
    is_minority: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int64],
    share: float,
) -> list[dict[str, Any]]:
    """What each pair of equal error rates leaves to people, and what it misses.

    Args:
        p_normal: ``[N]``.
        p_minority: ``[N]``.
        is_minority: ``[N]``.
        groups: ``[N]`` group index.
        share: of the minority where the model works.

    Returns:
        One entry per rate of :data:`CURVE_RATES`: ``rate``, ``people`` (share of images that are REVIEW or
        NOVEL), ``misses`` and ``false_alarms`` as of :func:`triage_figures`.
    """
    curve = []
    for rate in CURVE_RATES:
        codes = triage_of(p_normal, p_minority, rate, rate)
        by_people = np.isin(codes, (REVIEW, NOVEL))
        rates = [rate_of(by_people[mask], groups[mask]) for mask in (is_minority, ~is_minority)]
        figures = triage_figures(codes, is_minority, groups, share)
        curve.append(
            {"rate": rate, "people": mixed(share, *rates)}
            | {name: figures[name] for name in ("misses", "false_alarms")}
        )
    return curve


def _counts(codes: npt.NDArray[np.int64]) -> dict[str, int]:
    return {name: int((codes == code).sum()) for code, name in enumerate(TRIAGE_NAMES)}
