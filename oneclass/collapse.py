"""Catching one-class members that call everything the same.

A Deep SVDD that maps every image to its centre has a perfect loss and knows nothing (PyOD issue 711
found one distinct score on 10 of 17 sets while its AUROC tests passed). So members look at their own
scores after fitting.
"""

from __future__ import annotations

import numpy as np

from contracts.errors import MemberCollapsedError
from contracts.rows import FloatArray

_LEAST_DISTINCT_SHARE = 0.5
_LEAST_RELATIVE_SPREAD = 1e-3


def require_distinct_scores(name: str, scores: FloatArray) -> None:
    """Refuse scores that do not vary over training images.

    Args:
        name: of the member, for the message.
        scores: ``[N, 1]`` scores of training images.

    Raises:
        MemberCollapsedError: not finite, too few distinct values, or a relative spread below 1e-3.
    """
    values = scores[:, 0].astype(np.float64)
    if not np.isfinite(values).all():
        raise MemberCollapsedError(f"{name}: {int((~np.isfinite(values)).sum())} scores are not finite.")
    distinct = len(np.unique(values)) / len(values)
    spread = float(values.std() / (abs(values.mean()) + 1e-12))
    if len(values) > 1 and (distinct < _LEAST_DISTINCT_SHARE or spread < _LEAST_RELATIVE_SPREAD):
        raise MemberCollapsedError(
            f"{name}: collapsed, {len(np.unique(values))} distinct scores among {len(values)} images, "
            f"relative spread {spread:.1e}."
        )
