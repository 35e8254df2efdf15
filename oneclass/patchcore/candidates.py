"""The patches that a bank is chosen from, drawn and projected one batch of images at a time.

Memory never holds all patches, nor all channels of the drawn ones. One pass estimates mean and projection, a
second one projects the drawn patches to the bank's few coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from contracts.rows import ImageRows, IndexArray
from oneclass.patchcore.module import cells_of
from oneclass.patchcore.moments import Moments
from oneclass.patchcore.settings import PatchCoreSettings

_BATCH = 64


class Candidates:
    """Drawn patches of majority rows, and the space they are compared in.

    Attributes:
        images: ``[n]`` positions of the rows that patches are drawn from.
        cells: ``[n, m]`` cells drawn from each of these rows, without repeats.
        mean: ``[C]`` float32.
        projection: ``[C, k]`` float32, or None if patches stay as the backbone computes them.

    Args:
        normal: majority rows.
        settings: how many candidates, and which projection.
        seed: of the draw.
    """

    def __init__(self, normal: ImageRows, settings: PatchCoreSettings, seed: int) -> None:
        self._settings = settings
        self._normal = normal
        self.images, self.cells = draw_places(normal, settings.candidate_patches, seed)
        moments = Moments(normal.shapes.patch_channels)
        # Moments of all rows cost one more pass over the features; those of the drawn patches are nearly the
        # same.
        for patches in self._all() if settings.pca_rows == "all" else self._drawn():
            moments.add(patches)
        self.mean = moments.mean.float()
        self.projection = moments.projection(settings.pca_dim, settings.whiten, settings.shrinkage)

    def __len__(self) -> int:
        return self.cells.size

    @property
    def dim(self) -> int:
        """k, the number of coordinates of a projected patch."""
        return len(self.mean) if self.projection is None else self.projection.shape[1]

    def points(self) -> Tensor:
        """``[P, k]`` float32 centred, projected patches, image by image."""
        points = torch.empty(len(self), self.dim)
        start = 0
        for patches in self._drawn():
            # Centred even without a projection: distances do not change, and smaller norms round less.
            centred = patches - self.mean
            stop = start + len(patches)
            points[start:stop] = centred if self.projection is None else centred @ self.projection
            start = stop
        return points

    def _drawn(self) -> Iterator[Tensor]:
        """``[b * m, C]`` drawn patches, one batch of b images at a time."""
        start = 0
        for batch in self._normal.subset(self.images).patches(_BATCH):
            cells_NPC = cells_of(torch.from_numpy(batch), self._settings.neighbourhood)
            places = torch.from_numpy(self.cells[start : start + len(batch)])
            start += len(batch)
            yield torch.take_along_dim(cells_NPC, places[:, :, None], dim=1).flatten(end_dim=1)

    def _all(self) -> Iterator[Tensor]:
        """``[b * g * g, C]`` all patches of all rows, one batch of b images at a time."""
        for batch in self._normal.patches(_BATCH):
            yield cells_of(torch.from_numpy(batch), self._settings.neighbourhood).flatten(end_dim=1)


def draw_places(normal: ImageRows, most: int, seed: int) -> tuple[IndexArray, IndexArray]:
    """Draw images ``[n]`` (positions) and cells ``[n, m]`` within each of them.

    Args:
        normal: rows; each contributes the same number of patches, as long as ``most`` allows for one each.
        most: patches, at most.
        seed: of the draw.
    """
    cells = normal.shapes.patch_grid**2
    per_image = max(1, min(cells, most // len(normal)))
    generator = np.random.default_rng(seed)
    images = np.arange(len(normal))
    # With more images than candidates, a random draw of the images contributes one patch each.
    if len(normal) > most:
        images = np.sort(generator.choice(len(normal), most, replace=False))
    # Sampling without replacement by random keys: the same number of random values per image, whatever
    # per_image is, so that one more candidate does not change the cells drawn before.
    places = [np.argsort(generator.random(cells))[:per_image] for _ in images]
    return images, np.stack(places)
