"""Why PatchCore gave a score: the patches that decided it, and the bank patches nearest to them."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from contracts.member import DecidingPatch, NormalPatch
from oneclass.patchcore.bank_origin import BankOrigin
from oneclass.patchcore.module import PatchCoreModule


def deciding_patches(
    module: PatchCoreModule,
    origin: BankOrigin,
    patches: Tensor,
    n_nearest: int,
    without: Collection[str] = (),
    most: int = 3,
) -> list[DecidingPatch]:
    """The patches that decided an image's score, the one farthest from the bank first.

    If the score is a mean over patches, these are the ``top_patches`` farthest, by the distance that the
    score uses (to the nearest bank patch, or the mean over the k nearest). So they are for ``top_or_all``,
    even where all patches together decided. If the score is equation 7's, it is the single farthest patch.

    Args:
        module: fitted.
        origin: of the module's bank.
        patches: ``[C, g, g]`` patch features of one image.
        n_nearest: neighbours of each deciding patch, at most.
        without: digests of images whose bank patches may not be neighbours: a training image would otherwise
            be explained by itself.
        most: deciding patches, at most.
    """
    settings = module.settings
    # Float64, because the order of nearly equal distances must not depend on rounding.
    cells_Pk = module.projected(patches[None])[0].double()
    bank = module.bank.double()
    distances_PB = torch.cdist(cells_Pk, bank)
    far_PB = torch.zeros_like(distances_PB, dtype=torch.bool) if module.far is None else module.far()
    distances_PB[far_PB] = torch.inf
    if settings.image_score == "knn_mean":
        n_neighbours = min(settings.neighbours, len(bank))
        distances = distances_PB.topk(n_neighbours, dim=1, largest=False).values.mean(dim=1)
    else:
        distances = distances_PB.amin(dim=1)
    n_top = 1 if settings.image_score == "reweighted" else settings.top_patches
    order = distances.argsort(descending=True, stable=True)[: min(n_top, most)]
    excluded = [i for i, image in enumerate(origin.image) if str(origin.sha256[image]) in set(without)]
    found = []
    for cell in order.tolist():
        # By differences: a copy of a bank patch is then at 0, and not at a matrix product's rounding error.
        to_bank = (bank - cells_Pk[cell]).norm(dim=1).masked_fill_(far_PB[cell], torch.inf)
        distance = float(to_bank.min())
        to_bank[excluded] = float("inf")
        nearest = to_bank.argsort(stable=True)[:n_nearest].tolist()
        found.append(
            DecidingPatch(
                cell=cell,
                distance=distance,
                nearest=tuple(
                    NormalPatch(origin.digest_of_patch(patch), int(origin.cell[patch]), float(to_bank[patch]))
                    for patch in nearest
                    if torch.isfinite(to_bank[patch])
                ),
            )
        )
    return found
