"""Where the patches of a PatchCore bank come from: the training image and the cell of its grid.

It takes a few bytes per patch beside the bank, and lets a score be explained by the normal patches that it is
a distance to. Images are identified by the digest of their bytes, because a position would mean a different
image in another selection of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from contracts.files import Arrays

_NAMES = ("origin_sha256", "origin_image", "origin_cell")


@dataclass(frozen=True)
class BankOrigin:
    """Origin of B bank patches in I images.

    Attributes:
        sha256: ``[I]`` distinct hex digests of the images that contributed patches.
        image: ``[B]`` int32 position in ``sha256`` of each patch's image.
        cell: ``[B]`` int32 cell of each patch on the ``g`` x ``g`` grid, row by row: ``row * g + column``.
    """

    sha256: npt.NDArray[np.str_]
    image: npt.NDArray[np.int32]
    cell: npt.NDArray[np.int32]

    @classmethod
    def of_patches(cls, sha256: npt.NDArray[np.str_], cell: npt.NDArray[np.integer[Any]]) -> Self:
        """From the digest ``[B]`` and the cell ``[B]`` of every patch."""
        distinct, image = np.unique(sha256, return_inverse=True)
        return cls(distinct, image.astype(np.int32), cell.astype(np.int32))

    def joined(self, other: Self) -> Self:
        """The origin of this bank with another's patches appended."""
        digests = [each.sha256[each.image] for each in (self, other)]
        return self.of_patches(np.concatenate(digests), np.concatenate([self.cell, other.cell]))

    def digest_of_patch(self, patch: int) -> str:
        """Hex digest of the image that a bank patch was taken from."""
        return str(self.sha256[self.image[patch]])

    def arrays(self) -> Arrays:
        """For the member's saved state. Digests are stored as bytes, a quarter of the size of text."""
        return dict(zip(_NAMES, (self.sha256.astype(np.bytes_), self.image, self.cell), strict=True))

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Rebuild from :meth:`arrays`.

        Raises:
            ModelError: there is no origin among the arrays.
        """
        missing = [name for name in _NAMES if name not in arrays]
        if missing:
            raise ModelError(
                f"patchcore: its saved state has no {missing[0]}, so it does not say which images its bank "
                "comes from. Train the member again."
            )
        sha256, image, cell = (arrays[name] for name in _NAMES)
        return cls(sha256.astype(np.str_), image, cell)
