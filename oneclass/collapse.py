"""Detecting one-class members that give every image the same score.

A Deep SVDD that maps every image to its centre has a perfect loss and has learnt nothing (PyOD issue 711
found a single distinct score on 10 of 17 data sets while the AUROC tests passed). So members check their own
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
    # Relative to the mean, because scores have no fixed unit; 1e-12 only avoids 0 / 0.
    spread = float(values.std() / (abs(values.mean()) + 1e-12))
    if len(values) > 1 and (distinct < _LEAST_DISTINCT_SHARE or spread < _LEAST_RELATIVE_SPREAD):
        raise MemberCollapsedError(
            f"{name}: collapsed, {len(np.unique(values))} distinct scores among {len(values)} images, "
            f"relative spread {spread:.1e}."
        )


def are_distinct(scores: FloatArray) -> bool:
    """Whether ``[N, 1]`` scores of training images vary; see :func:`require_distinct_scores`."""
    try:
        require_distinct_scores("scores", scores)
    except MemberCollapsedError:
        return False
    return True


def require_spread_embeddings(name: str, embeddings: FloatArray, centre: FloatArray) -> None:
    """Refuse a network that maps all training images to one point.

    Distances to the centre may vary a lot in relative terms while all of them are tiny. So this looks at the
    embeddings themselves, relative to the distance of the centre from the origin.

    Args:
        name: of the member, for the message.
        embeddings: ``[N, d]`` of training images.
        centre: ``[d]``.

    Raises:
        MemberCollapsedError: they are not finite, or their spread is below 1e-4 of the centre's norm.
    """
    values = embeddings.astype(np.float64)
    if not np.isfinite(values).all():
        raise MemberCollapsedError(f"{name}: embeddings are not finite.")
    spread = float(np.sqrt(values.var(axis=0).sum()))
    share = spread / (float(np.linalg.norm(centre.astype(np.float64))) + 1e-12)
    if len(values) > 1 and share < _LEAST_SHARE_OF_CENTRE:
        raise MemberCollapsedError(
            f"{name}: collapsed, the embeddings of {len(values)} images have a spread of only {share:.1e} of "
            "the centre's norm."
        )
