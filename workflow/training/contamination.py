"""Fitting a one-class member on images that nobody has labelled, some of which may not be normal.

A member that learns an anomaly as normal no longer finds its like. So the rows that look most anomalous are
left out of the fit. They are found by the member itself, cross-fitted: each half of the rows is scored by a
member that saw the other half alone, because a bank scores its own rows too low. A first round learns from
contaminated halves; the second learns from halves without the suspects of the first, which were hidden by
their like. The share that is left out is an assumption (the recipe's ``contamination``), not an estimate:
rows left out in vain only make a fit slightly narrower, and their scores still count as out-of-fold scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from contracts.member import FitContext, Member
from contracts.rows import ImageRows, IndexArray, MaskArray, majority_positions

ROUNDS = 2
_HALVES = 2
_FEWEST_ROWS = 10
"""With fewer rows each half would hold fewer than five, too few to say which of the others are anomalous."""


def typical_positions(
    build: Callable[[], Member], rows: ImageRows, share: float, context: FitContext
) -> IndexArray:
    """Positions of the rows that a one-class member should be fitted on, ascending.

    Args:
        build: makes an unfitted member.
        rows: training rows. Those labelled as the minority stay, whoever reads them; all others are only
            assumed to be normal.
        share: of the assumed normal rows that is left out, 0…0.5; rounded down to whole rows.
        context: of the fit; the inner fits share its seed and report nothing.
    """
    assumed = majority_positions(rows)
    n_suspects = int(share * len(assumed))
    if not n_suspects or len(assumed) < _FEWEST_ROWS:
        return np.arange(len(rows))
    is_typical = np.ones(len(rows), dtype=bool)
    is_typical[assumed] = _typical(build, rows.subset(assumed), n_suspects, context)
    context.report(
        f"{n_suspects} of {len(assumed)} images are left out of the fit as the most anomalous ones "
        f"(contamination={share:g})"
    )
    return np.flatnonzero(is_typical).astype(np.int64)


def _typical(build: Callable[[], Member], rows: ImageRows, n_suspects: int, context: FitContext) -> MaskArray:
    """``[N]`` False for the rows that score highest in the last round."""
    half_of_row = _halves(rows)
    quiet = FitContext(seed=context.seed, device=context.device)
    is_typical = np.ones(len(rows), dtype=bool)
    for _ in range(ROUNDS):
        scores = np.empty(len(rows), dtype=np.float64)
        for half in range(_HALVES):
            scored = half_of_row == half
            member = build().fit(rows.subset(np.flatnonzero(~scored & is_typical)), quiet)
            # Suspects are scored as well: a later round may acquit them.
            scores[scored] = member.score(rows.subset(np.flatnonzero(scored)))[:, 0]
        is_typical = np.ones(len(rows), dtype=bool)
        is_typical[np.argsort(-scores, kind="stable")[:n_suspects]] = False
    return is_typical


def _halves(rows: ImageRows) -> IndexArray:
    """``[N]`` 0 or 1, of equal size but for whole groups, in an order that follows from the images' bytes."""
    first_digest: dict[int, str] = {}
    for group, digest in zip(rows.groups.tolist(), rows.digests.tolist(), strict=True):
        first_digest[group] = min(digest, first_digest.get(group, digest))
    # Hashed again, so that the halves do not depend on how digests happen to begin.
    order = sorted(
        first_digest, key=lambda group: hashlib.sha256(f"half|{first_digest[group]}".encode()).hexdigest()
    )
    half_of_group = {group: place % _HALVES for place, group in enumerate(order)}
    return np.array([half_of_group[group] for group in rows.groups.tolist()], dtype=np.int64)
