"""Rows of the one-class benchmark: images in memory, backbone features cached in the usual store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from contracts.rows import FeatureShapes, FloatArray, ImageArray, IndexArray, LabelArray, MaskArray
from features.backbones import Backbone
from features.cache import FeatureStore
from features.graphs.runner import backbone_runner
from features.settings import BackboneSettings
from imagedata.layouts.pack_formats import PixelArray
from reporting.terminal import progress_bar

_BATCH = 32
_SHARD = 256


def digests_of(images: PixelArray) -> list[str]:
    """SHA-256 of each image's pixels."""
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


class PackedRows:
    """Images of a set as members see them, one class against the others; a contracts.rows.ImageRows.

    Args:
        images: ``[n, h, w]`` or ``[n, h, w, 3]`` uint8, all of a split.
        positions: ``[N]`` of those that are rows.
        labels: ``[N]`` 1 for the minority.
        image_size: side S that images are resized to, as :mod:`imagedata.decoding.decode` does it.
        store: backbone features at this size; None where nobody asks for any.
        digests: ``[n]`` of the images, for the store.
    """

    def __init__(
        self,
        images: PixelArray,
        positions: IndexArray,
        labels: LabelArray,
        image_size: int,
        store: FeatureStore | None = None,
        digests: list[str] | None = None,
    ) -> None:
        self._images, self._positions, self._labels = images, positions, labels
        self._image_size, self._store, self._digests = image_size, store, digests

    @property
    def labels(self) -> LabelArray:
        """``[N]`` 0 for the normal class, 1 for every other."""
        return self._labels

    @property
    def groups(self) -> IndexArray:
        """Every image stands for itself."""
        return self._positions

    @property
    def digests(self) -> npt.NDArray[np.str_]:
        """``[N]`` SHA-256 of the images' pixels."""
        return np.array(self._digests_at(self._positions), dtype=np.str_)

    @property
    def is_copy(self) -> MaskArray:
        """No image is a copy."""
        return np.zeros(len(self), dtype=np.bool_)

    @property
    def view_of(self) -> IndexArray:
        """No row is a view."""
        return np.full(len(self), -1, dtype=np.int64)

    @property
    def n_classes(self) -> int:
        """The normal class, and what is not of it."""
        return 2

    @property
    def shapes(self) -> FeatureShapes:
        """Sizes of the backbone features, where there are any."""
        return FeatureShapes(self._image_size, 0, 0, 0) if self._store is None else self._store.shapes

    def __len__(self) -> int:
        return len(self._positions)

    def subset(self, indices: IndexArray) -> PackedRows:
        """The rows at ``indices``, in that order."""
        return PackedRows(
            self._images,
            self._positions[indices],
            self._labels[indices],
            self._image_size,
            self._store,
            self._digests,
        )

    def pooled(self) -> FloatArray:
        """``[N, D]`` pooled backbone features."""
        assert self._store is not None
        return self._store.pooled(self._digests_at(self._positions))

    def patches(self, batch_size: int = 64) -> Iterator[FloatArray]:
        """Yield ``[B, C, g, g]`` patch features in row order."""
        assert self._store is not None
        for start in range(0, len(self), batch_size):
            yield self._store.patches(self._digests_at(self._positions[start : start + batch_size]))

    def images(self, positions: IndexArray) -> ImageArray:
        """``[B, S, S, 3]`` uint8 RGB pixels at the working size."""
        return resized(self._images[self._positions[positions]], self._image_size)

    def _digests_at(self, positions: IndexArray) -> list[str]:
        assert self._digests is not None
        return [self._digests[position] for position in positions]


def resized(images: PixelArray, size: int) -> ImageArray:
    """``[B, S, S, 3]`` uint8 RGB of grey or RGB images, by Pillow as files are decoded."""
    if images.shape[1:3] == (size, size):
        return np.repeat(images[..., None], 3, axis=3) if images.ndim == 3 else images
    pictures = (Image.fromarray(image).convert("RGB") for image in images)
    small = [np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)) for picture in pictures]
    return np.stack(small)


def store_of(settings: BackboneSettings, runs: Path) -> tuple[Backbone, FeatureStore]:
    """The backbone and the store that all runs below ``runs`` share."""
    backbone = Backbone(settings)
    name = f"{settings.name.replace(':', '_')}-{backbone.cache_key}"
    return backbone, FeatureStore(runs / "features" / name, backbone.shapes)


def fill_store(
    backbone: Backbone, store: FeatureStore, images: PixelArray, digests: list[str], device: str
) -> int:
    """Compute the features of the images that the store lacks; goes on where an earlier call stopped.

    Returns:
        How many were computed.
    """
    place_of = {digest: place for place, digest in enumerate(digests) if digest not in store}
    missing = list(place_of)
    if not missing:
        return 0
    run = backbone_runner(backbone, store.folder, device)
    with progress_bar(f"backbone {backbone.settings.name}", len(missing)) as bar:
        for start in range(0, len(missing), _SHARD):
            shard = missing[start : start + _SHARD]
            pooled, patches = [], []
            for first in range(0, len(shard), _BATCH):
                places = [place_of[digest] for digest in shard[first : first + _BATCH]]
                batch_pooled, batch_patches = run(resized(images[places], backbone.settings.working_size))
                pooled.append(batch_pooled)
                patches.append(batch_patches)
                bar.advance(len(places))
            store.append(shard, np.concatenate(pooled), np.concatenate(patches))
    return len(missing)
