"""Rows with features from the store and pixels from their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.errors import DataError, ImageError
from contracts.rows import FeatureShapes, FloatArray, ImageArray, IndexArray, LabelArray, MaskArray
from features.cache import FeatureStore
from imagedata.decoding.decode import DecodeSettings, decode_file
from imagedata.views import MirrorImage, View


def read_pixels(
    paths: Sequence[Path],
    decode: DecodeSettings,
    is_cut: Sequence[bool] | MaskArray | None = None,
    views: Sequence[View | MirrorImage | None] | None = None,
) -> ImageArray:
    """``[n, S, S, 3]`` uint8 pixels of files that could be decoded when the data set was inspected.

    Args:
        paths: n files.
        decode: working size, window, region and fit.
        is_cut: whether a file was written of pixels that were cut to the region already, as augmented copies
            are; None where none was.
        views: of each file, how it is seen; None for all of them as they are.

    Raises:
        DataError: a file is missing or has changed since; the message names it.
    """
    pixels = []
    for place, path in enumerate(paths):
        try:
            settings = decode.without_region if is_cut is not None and is_cut[place] else decode
            image = decode_file(path, settings).pixels
        except ImageError as error:
            raise DataError(
                f"{path}: {error} It could be read when the data set was inspected. "
                "Restore it, or run the same command again to exclude it."
            ) from error
        view = views[place] if views is not None else None
        pixels.append(image if view is None else view.of(image))
    # All files are decoded to one size, so they stack.
    return np.stack(pixels)


class CachedRows:
    """The rows that members receive; see :class:`contracts.rows.ImageRows`.

    Args:
        store: features of one backbone.
        digests: ``[N]`` SHA-256 per row.
        paths: ``[N]`` files, for members that read pixels.
        labels: ``[N]`` class index, minority last.
        n_classes: K.
        decode: working size and window.
        groups: ``[N]`` group numbers; None means that every row is a group of its own.
        is_copy: ``[N]`` whether a row is an augmented copy or a view; None means that none is.
        views: ``[N]`` how each row's file is seen; None for all of them as they are. A view's row has the
            view's digest; a mirror image's row has the image's, and its features are kept by its own.
    """

    def __init__(
        self,
        store: FeatureStore,
        digests: Sequence[str],
        paths: Sequence[Path],
        labels: LabelArray,
        n_classes: int,
        decode: DecodeSettings,
        groups: IndexArray | None = None,
        is_copy: MaskArray | None = None,
        views: Sequence[View | MirrorImage | None] | None = None,
    ) -> None:
        self._store = store
        self._digests = list(digests)
        self._paths = list(paths)
        self._labels = labels
        self._n_classes = n_classes
        self._decode = decode
        self._groups = np.arange(len(self._digests)) if groups is None else groups
        self._is_copy = np.zeros(len(self._digests), dtype=np.bool_) if is_copy is None else is_copy
        self._views = [None] * len(self._digests) if views is None else list(views)
        # Under what the store has a row's features.
        self._keys = [
            seen.digest if isinstance(seen, MirrorImage) else digest
            for digest, seen in zip(self._digests, self._views, strict=True)
        ]

    @property
    def labels(self) -> LabelArray:
        """``[N]`` class index of each row."""
        return self._labels

    @property
    def groups(self) -> IndexArray:
        """``[N]`` group number of each row."""
        return self._groups

    @property
    def digests(self) -> npt.NDArray[np.str_]:
        """``[N]`` SHA-256 of each row's file."""
        return np.array(self._digests, dtype=np.str_)

    @property
    def is_copy(self) -> MaskArray:
        """``[N]`` whether a row is an augmented copy or a view of another."""
        return self._is_copy

    @property
    def view_of(self) -> IndexArray:
        """``[N]`` position of the image that a row is a view of; -1 where it is none."""
        # Equal files are one image, so any of their rows will do.
        position = {digest: i for i, digest in enumerate(self._digests)}
        found = [position.get(view.sha256, -1) if isinstance(view, View) else -1 for view in self._views]
        return np.array(found, dtype=np.int64)

    @property
    def n_classes(self) -> int:
        """K of the data set."""
        return self._n_classes

    @property
    def shapes(self) -> FeatureShapes:
        """Sizes of the backbone features."""
        return self._store.shapes

    def __len__(self) -> int:
        return len(self._digests)

    def subset(self, indices: IndexArray) -> CachedRows:
        """The rows at ``indices``, in that order."""
        return CachedRows(
            self._store,
            [self._digests[i] for i in indices],
            [self._paths[i] for i in indices],
            self._labels[indices],
            self._n_classes,
            self._decode,
            self._groups[indices],
            self._is_copy[indices],
            [self._views[i] for i in indices],
        )

    def mirrored(self) -> CachedRows:
        """The same rows, each seen as its mirror image.

        Their digests stay those of the images: a member that leaves an image's own part out leaves it out
        when it sees the mirror image as well.
        """
        assert not any(self._views)  # what is scored is an image
        return CachedRows(
            self._store,
            self._digests,
            self._paths,
            self._labels,
            self._n_classes,
            self._decode,
            self._groups,
            self._is_copy,
            [MirrorImage(digest) for digest in self._digests],
        )

    def pooled(self) -> FloatArray:
        """``[N, D]`` pooled backbone features."""
        return self._store.pooled(self._keys)

    def patches(self, batch_size: int = 64) -> Iterator[FloatArray]:
        """Yield ``[B, C, g, g]`` patch features in row order."""
        for start in range(0, len(self), batch_size):
            yield self._store.patches(self._keys[start : start + batch_size])

    def images(self, positions: IndexArray) -> ImageArray:
        """``[B, S, S, 3]`` uint8 RGB pixels at the working size."""
        views = [self._views[i] for i in positions]
        # A view is made of an image that is still to be cut; an augmented copy was made of one that was.
        is_cut = [bool(self._is_copy[i]) and self._views[i] is None for i in positions]
        return read_pixels([self._paths[i] for i in positions], self._decode, is_cut, views)
