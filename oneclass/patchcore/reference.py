"""Scores of the bank's own images, as if they were new: what the scale of the scores is taken from.

An image that gave patches to the bank is at distance 0 from those. A scale taken from such distances would
make every new image look odd. So each image is first scored without the bank patches of its own and of its
family. That is still too far: the bank took the most unusual patches, each from the one image that had it,
and where they are hidden nothing stands in for them, as in a bank chosen without the image something would.
How much too far is measured on some of the images, by banks that are chosen again without them: the mean and
the spread of the same images' scores (their logarithms) by both ways tell what to take off all. In units of
the scores new images lay at -1 without that, on made-up images whose patches are noise, and lie at 0 with it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from contracts.member import MemberInput
from contracts.rows import FloatArray, ImageRows, IndexArray, MaskArray
from features.apply import batch_size_for
from oneclass.majority import families_of, held_out_parts, reference_positions
from oneclass.patchcore.bank_origin import BankOrigin
from oneclass.patchcore.module import PatchCoreModule

_PATCHES: frozenset[MemberInput] = frozenset({"patches"})
# A bank without a tenth of the images is nearly the whole one. Fewer images are enough than for a mean, since
# both scores of a pair are of one image: what differs most between images cancels.
_PARTS = 10
_ENOUGH_PAIRS = 128


def means_of_new_images(
    module: PatchCoreModule,
    origin: BankOrigin,
    majority: ImageRows,
    module_without: Callable[[MaskArray], PatchCoreModule],
    seed: int,
) -> FloatArray:
    """``[R, m]`` :meth:`PatchCoreModule.means` of at most :data:`oneclass.majority.REFERENCE_ROWS` images.

    Args:
        module: fitted.
        origin: of its bank.
        majority: the rows that the bank was chosen from.
        module_without: fits another one without some of these rows, ``[N]`` true where left out.
        seed: of the parts.
    """
    families = families_of(majority)
    chosen, means = _without_own_patches(module, origin, majority, families)
    hidden, fresh = [], []
    for part in held_out_parts(families, seed, _PARTS, enough=_ENOUGH_PAIRS):
        judged = part[chosen]
        if not judged.any():
            continue
        rows = majority.subset(chosen[judged])
        smaller = module_without(part)
        with torch.inference_mode():
            size = batch_size_for(rows.shapes, _PATCHES)
            fresh += [smaller.means(torch.from_numpy(patches))[0] for patches in rows.patches(size)]
        hidden.append(means[judged])
    if not fresh:
        return means
    return _moved(means, np.concatenate(hidden), torch.cat(fresh).numpy())


def _moved(means: FloatArray, hidden: FloatArray, fresh: FloatArray) -> FloatArray:
    """``[R, m]`` means, moved and stretched in their logarithms as ``[n, m]`` hidden ones to fresh ones."""
    least = np.finfo(np.float32).tiny
    logs, of_hidden, of_fresh = (
        np.log(np.maximum(x, least, dtype=np.float64)) for x in (means, hidden, fresh)
    )
    from_spread, to_spread = of_hidden.std(axis=0), of_fresh.std(axis=0)
    # Of images that are all alike nothing can be said about the spread.
    stretch = np.where((from_spread > 0) & (to_spread > 0), to_spread / np.maximum(from_spread, least), 1.0)
    centre = logs.mean(axis=0)
    moved = centre + (of_fresh.mean(axis=0) - of_hidden.mean(axis=0)) + (logs - centre) * stretch
    result: FloatArray = np.exp(moved).astype(np.float32)
    return result


def _without_own_patches(
    module: PatchCoreModule, origin: BankOrigin, majority: ImageRows, families: IndexArray
) -> tuple[IndexArray, FloatArray]:
    """Positions ``[R]`` of images, and their means ``[R, m]`` without the bank patches of their families."""
    family_of = dict(zip(majority.digests.tolist(), families.tolist(), strict=True))
    family_of_patch = np.array([family_of[digest] for digest in origin.sha256.tolist()])[origin.image]
    # A family that fills the bank, or all but a few patches of it, cannot be scored without itself.
    needed = 1 if module.settings.image_score.startswith("top") else module.settings.neighbours
    left = {family: int((family_of_patch != family).sum()) for family in set(families.tolist())}
    chosen = np.array([i for i in range(len(majority)) if left[families[i]] >= min(needed, len(origin.cell))])
    if len(chosen) == 0:
        chosen, family_of_patch = np.arange(len(majority)), np.full(len(origin.cell), -1)
    chosen = chosen[reference_positions(len(chosen))]
    means = []
    size = batch_size_for(majority.shapes, _PATCHES)
    for start, patches in zip(
        range(0, len(chosen), size), majority.subset(chosen).patches(size), strict=True
    ):
        own = families[chosen[start : start + size], None] == family_of_patch
        with torch.inference_mode():
            means.append(module.means(torch.from_numpy(patches), torch.from_numpy(own))[0])
    return chosen, torch.cat(means).numpy()
