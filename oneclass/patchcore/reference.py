"""Scores of the bank's own images, as if the bank lacked each image: what new normal images score.

An image that gave patches to the bank is at distance 0 from those. The scale of the scores must not be taken
from such distances, or every new image would look odd. So each image is scored without the bank patches of
its own and of its group, which is what a fold without it would do, but for the patches that a smaller choice
would have taken instead.
"""

from __future__ import annotations

import numpy as np
import torch

from contracts.rows import FloatArray, ImageRows
from oneclass.majority import families_of, reference_positions
from oneclass.patchcore.bank_origin import BankOrigin
from oneclass.patchcore.module import PatchCoreModule

_BATCH = 64


def scores_without_own_patches(
    module: PatchCoreModule, origin: BankOrigin, majority: ImageRows
) -> FloatArray:
    """``[R, 1]`` raw scores of at most :data:`oneclass.majority.REFERENCE_ROWS` of the bank's images.

    Args:
        module: fitted.
        origin: of its bank.
        majority: the rows that the bank was chosen from.
    """
    families = families_of(majority)
    family_of = dict(zip(majority.digests.tolist(), families.tolist(), strict=True))
    family_of_patch = np.array([family_of[digest] for digest in origin.sha256.tolist()])[origin.image]
    # A family that fills the bank, or all but a few patches of it, cannot be scored without itself.
    needed = 1 if module.settings.image_score == "top_mean" else module.settings.neighbours
    left = {family: int((family_of_patch != family).sum()) for family in set(families.tolist())}
    chosen = np.array([i for i in range(len(majority)) if left[families[i]] >= min(needed, len(origin.cell))])
    if len(chosen) == 0:
        chosen, family_of_patch = np.arange(len(majority)), np.full(len(origin.cell), -1)
    chosen = chosen[reference_positions(len(chosen))]
    scores = []
    for start, patches in zip(
        range(0, len(chosen), _BATCH), majority.subset(chosen).patches(_BATCH), strict=True
    ):
        own = families[chosen[start : start + _BATCH], None] == family_of_patch
        with torch.inference_mode():
            scores.append(module.distances(torch.from_numpy(patches), torch.from_numpy(own))[0])
    return torch.cat(scores).numpy()
