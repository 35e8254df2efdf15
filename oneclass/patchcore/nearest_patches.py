"""Why PatchCore gave a score: the patches that decided it, and the bank patches nearest to them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from contracts.errors import ModelError
from oneclass.patchcore.member import PatchCore


@dataclass(frozen=True)
class NormalPatch:
    """A patch of the bank, as a neighbour.

    Attributes:
        sha256: digest of the training image that it was taken from.
        cell: its cell on that image's grid, ``row * g + column``.
        distance: from the patch that it is a neighbour of, in the bank's space.
    """

    sha256: str
    cell: int
    distance: float


@dataclass(frozen=True)
class DecidingPatch:
    """A patch that the image's score was made of.

    Attributes:
        cell: on the image's grid, ``row * g + column``.
        distance: to the nearest patch of the whole bank; what an unsmoothed map shows there, unless the score
            is that of k neighbours.
        nearest: patches of the bank, the nearest first.
    """

    cell: int
    distance: float
    nearest: tuple[NormalPatch, ...]


def deciding_patches(
    member: PatchCore,
    patches: Tensor,
    n_nearest: int,
    without: Collection[str] = (),
    most: int = 3,
) -> list[DecidingPatch]:
    """The patches that decided an image's score, the farthest from the bank first.

    These are the ``top_patches`` farthest where the score is their mean, by the distance that the score
    takes (to the nearest bank patch, or the mean to the k nearest), and the single farthest where the score
    is equation 7's.

    Args:
        member: fitted.
        patches: ``[C, g, g]`` patch features of one image.
        n_nearest: neighbours of each, at most.
        without: digests of images whose bank patches are passed over as neighbours: an image that is in
            the bank itself would be explained by itself.
        most: deciding patches, at most.

    Raises:
        ModelError: the member was fitted by a version that did not keep where its bank comes from.
    """
    module, origin = member.to_module(), member.origin
    if origin is None:
        raise ModelError("patchcore: fitted by an older version, which kept no origin of its bank's patches.")
    cells_Pk = module.projected(patches[None])[0].double()
    bank = module.bank.double()
    distances_PB = torch.cdist(cells_Pk, bank)
    if member.settings.image_score == "knn_mean":
        n_neighbours = min(member.settings.neighbours, len(bank))
        distances = distances_PB.topk(n_neighbours, dim=1, largest=False).values.mean(dim=1)
    else:
        distances = distances_PB.amin(dim=1)
    n_top = 1 if member.settings.image_score == "reweighted" else member.settings.top_patches
    order = distances.argsort(descending=True, stable=True)[: min(n_top, most)]
    passed_over = [i for i, image in enumerate(origin.image) if str(origin.sha256[image]) in set(without)]
    found = []
    for cell in order.tolist():
        # By differences: a copy of a bank patch is at 0, not at the rounding of a product.
        to_bank = (bank - cells_Pk[cell]).norm(dim=1)
        distance = float(to_bank.min())
        to_bank[passed_over] = float("inf")
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
