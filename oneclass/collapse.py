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
_LEAST_SHARE_OF_CENTRE = 1e-4


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


def require_spread_embeddings(name: str, embeddings: FloatArray, centre: FloatArray) -> None:
    """Refuse a network that maps all training images to one place.

    Distances to the centre may still vary a lot in proportion while all of them are next to nothing, so
    the embeddings themselves are looked at, in units of how far the centre lies from the origin.

    Args:
        name: of the member, for the message.
        embeddings: ``[N, d]`` of training images.
        centre: ``[d]``.

    Raises:
        MemberCollapsedError: not finite, or spread by less than 1e-4 of the centre's norm.
    """
    values = embeddings.astype(np.float64)
    if not np.isfinite(values).all():
        raise MemberCollapsedError(f"{name}: embeddings are not finite.")
    spread = float(np.sqrt(values.var(axis=0).sum()))
    share = spread / (float(np.linalg.norm(centre.astype(np.float64))) + 1e-12)
    if len(values) > 1 and share < _LEAST_SHARE_OF_CENTRE:
        raise MemberCollapsedError(
            f"{name}: collapsed, the embeddings of {len(values)} images spread by {share:.1e} of the "
            "centre's norm."
        )
