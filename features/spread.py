"""The standard deviations that features are divided by: none of them tiny.

Many channels of a deep layer answer to almost nothing in a data set. Their standard deviation is a thousandth
of the others', and divided by it, a change that no eye sees, or an image of a new kind, counts for thousands
of standard deviations: on solar cells one channel of 1,712, moved by noise of one grey level, took a
probability from .14 to 1.00. Such channels hold little about the class either. With the floor below, linear
heads on 71 problems of few labels rank better (ranking error -17 %, interval -10 to -24 %), and Mahalanobis
distances on 25 draws more so (-36 %, -25 to -46 %). A stronger ridge without the floor gives neither.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_CONSTANT = 1e-6
"""A channel that varies by no more is constant but for rounding."""


def floored_spread(spread: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """``sqrt((spread^2 + usual^2) / 2)``, where the usual spread is the median of the channels that vary.

    A channel of the usual spread is divided by that, and none by less than 0.7 of it. Channels that vary more
    than usual count more, too, up to 1.4 times.

    Args:
        spread: ``[D]`` standard deviation of each channel over the training rows, 0 or more.

    Returns:
        ``[D]``, all positive; ones where no channel varies.
    """
    wide = np.asarray(spread, dtype=np.float64)
    varying = wide[wide > _CONSTANT]
    if not len(varying):
        return np.ones_like(wide)
    floored: npt.NDArray[np.float64] = np.hypot(wide, np.median(varying)) / np.sqrt(2.0)
    return floored
