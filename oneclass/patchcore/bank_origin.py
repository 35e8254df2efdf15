"""Where the patches of a PatchCore bank come from: which training image, which cell of its grid.

Kept beside the bank, a few bytes a patch, so that a score can be explained by the normal patches that it
is a distance to. Images are named by the digest of their bytes: a position would mean another image in
another selection of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from contracts.files import Arrays

_NAMES = ("origin_sha256", "origin_image", "origin_cell")


@dataclass(frozen=True)
class BankOrigin:
    """Origin of B bank patches in I images.

    Attributes:
        sha256: ``[I]`` hex digests of the images that gave patches, each once.
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
        """The origins of this bank with another's patches behind them."""
        digests = [each.sha256[each.image] for each in (self, other)]
        return self.of_patches(np.concatenate(digests), np.concatenate([self.cell, other.cell]))

    def digest_of_patch(self, patch: int) -> str:
        """Hex digest of the image that a bank patch was taken from."""
        return str(self.sha256[self.image[patch]])

    def arrays(self) -> Arrays:
        """For the member's saved state; digests as bytes, a quarter of the size of text."""
        return dict(zip(_NAMES, (self.sha256.astype(np.bytes_), self.image, self.cell), strict=True))

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self | None:
        """Rebuild from :meth:`arrays`; None for a state of an older version, which holds none."""
        if not all(name in arrays for name in _NAMES):
            return None
        sha256, image, cell = (arrays[name] for name in _NAMES)
        return cls(sha256.astype(np.str_), image, cell)
