"""Triage: what becomes of an image, by which classes it may be of. Needs numpy only.

An image may be normal where ``p_normal`` is above the share of false alarms that was asked for, and may be of
the minority where ``p_minority`` is above the miss rate: its conformal set. See :mod:`ensemble.triage`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PASS, FAIL, REVIEW, NOVEL = range(4)
"""May be normal and nothing else; may be of the minority and nothing else; may be either; may be neither."""

TRIAGE_NAMES = ("PASS", "FAIL", "REVIEW", "NOVEL")
"""Name of each number; 0 and 1 are those of the classes, normal and minority."""

LEVELS = ("miss_rate", "false_alarms")
"""Inputs of a file that has triage: the error rates, in this order."""


def triage_of(
    p_normal: npt.NDArray[np.floating[Any]],
    p_minority: npt.NDArray[np.floating[Any]],
    miss_rate: float,
    false_alarms: float,
) -> npt.NDArray[np.int64]:
    """``[N]`` position in :data:`TRIAGE_NAMES`.

    Args:
        p_normal: ``[N]`` share of normal images that look at least as much like the minority, 0…1.
        p_minority: ``[N]`` share of minority images that look at least as normal, 0…1.
        miss_rate: share of minority images that may be taken not to be of the minority, 0…1.
        false_alarms: share of normal images that may be taken not to be normal, 0…1.
    """
    may_be_normal = p_normal > np.asarray(false_alarms, dtype=p_normal.dtype)
    may_be_minority = p_minority > np.asarray(miss_rate, dtype=p_minority.dtype)
    one = np.where(may_be_normal, PASS, FAIL)
    more_or_none = np.where(may_be_normal, REVIEW, NOVEL)
    return np.where(may_be_normal == may_be_minority, more_or_none, one).astype(np.int64)
