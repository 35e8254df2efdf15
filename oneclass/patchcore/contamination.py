"""Majority rows that look like the minority: found by inner cross-fitting, and excluded from the bank.

A bank with patches of mislabelled images calls such images normal. The rule uses the training rows of the fit
and nothing else. The majority's groups are split into two random halves, and each half is scored by a bank
drawn from the other. A row is suspicious if its score lies more than ``contamination_z`` robust standard
deviations (1.4826 times the median absolute deviation; Iglewicz & Hoaglin 1993) above the median of its half.
The most suspicious rows are excluded, at most a share of ``contamination_most`` of all rows. Labels of the
minority are not used.

The inner banks are random draws instead of greedy selections, and a patch's distance is the mean over several
neighbours. Greedy selection picks the most unusual patches first, so one contaminated image in the other half
would hide the next.
"""

from __future__ import annotations

import numpy as np
import torch

from contracts.errors import DataError
from contracts.rows import FloatArray, ImageRows, IndexArray
from features.apply import score_with_module
from oneclass.patchcore.candidates import Candidates
from oneclass.patchcore.module import PatchCoreModule
from oneclass.patchcore.settings import PatchCoreSettings

_INNER_BANK = 2000
_INNER_CANDIDATES = 30_000
# Of a Gaussian, the standard deviation is 1.4826 times the median absolute deviation.
_TO_STANDARD_DEVIATION = 1.4826
_LEAST_GROUPS = 4


def rows_to_leave_out(normal: ImageRows, settings: PatchCoreSettings, seed: int) -> IndexArray:
    """Positions of the majority rows that the rule excludes, ascending; none if ``contamination_z`` is None.

    Args:
        normal: majority rows of one fit.
        settings: hold the rule's two numbers; the inner banks use the same projection.
        seed: of the halves and the inner banks.
    """
    if settings.contamination_z is None:
        return np.empty(0, dtype=np.int64)
    deviations = robust_deviations(normal, settings, seed)
    suspicious = np.flatnonzero(deviations > settings.contamination_z)
    # A cap, because robust deviations of a normal but long-tailed class may exceed any z; rounded down, so
    # that a few rows are never excluded for the sake of a share.
    most = int(settings.contamination_most * len(normal))
    farthest = suspicious[np.argsort(-deviations[suspicious], kind="stable")][:most]
    return np.sort(farthest).astype(np.int64)


def robust_deviations(normal: ImageRows, settings: PatchCoreSettings, seed: int) -> FloatArray:
    """``[N]`` how far each row's inner out-of-fold score lies above its half's median, in robust deviations.

    Raises:
        DataError: fewer than four groups.
    """
    groups = np.unique(normal.groups)
    if len(groups) < _LEAST_GROUPS:
        raise DataError(
            f"patchcore: contamination_z needs at least {_LEAST_GROUPS} groups of majority images, "
            f"got {len(groups)}. Leave the setting out."
        )
    deviations = np.zeros(len(normal), dtype=np.float32)
    # Groups stay whole: images of one patient in the other half would make a suspicious row look normal.
    first_half = np.random.default_rng([seed, 1]).permutation(groups)[: len(groups) // 2]
    is_first = np.isin(normal.groups, first_half)
    for judged, learned in ((is_first, ~is_first), (~is_first, is_first)):
        learned_rows, judged_rows = (normal.subset(np.flatnonzero(half)) for half in (learned, judged))
        scores = _scores(learned_rows, judged_rows, settings, seed)
        off = scores - np.median(scores)
        spread = _TO_STANDARD_DEVIATION * np.median(np.abs(off))
        # If more than half of the scores are equal, the spread is 0 and any other score counts as far away.
        deviations[judged] = off / max(float(spread), 1e-12)
    return deviations


def _scores(learned: ImageRows, judged: ImageRows, settings: PatchCoreSettings, seed: int) -> FloatArray:
    """``[n]`` scores of ``judged`` by a random bank of ``learned``."""
    inner = settings.model_copy(
        update={
            # Several neighbours, so that one contaminated image in the inner bank cannot vouch for another.
            "image_score": "knn_mean",
            "candidate_patches": _INNER_CANDIDATES,
            # A random draw may leave a place with nothing near it.
            "nearby": None,
            "map_size": None,
            "map_sigma": 0.0,
        }
    )
    candidates = Candidates(learned, inner, seed)
    points = candidates.points()
    drawn = np.random.default_rng([seed, 2]).permutation(len(points))[:_INNER_BANK]
    bank = points[torch.from_numpy(drawn)]
    module = PatchCoreModule(inner, candidates.mean, candidates.projection, bank)
    return score_with_module(module, judged, frozenset({"patches"}))[:, 0]
