"""The single streamed pass over the images that fills the feature store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contracts.rows import ImageArray
from features.backbones import Backbone
from features.cache import FeatureStore
from features.graphs.runner import backbone_runner
from features.rows import read_pixels
from imagedata.decoding.decode import DecodeSettings
from imagedata.views import MirrorImage, View

_BATCH = 32
_SHARD = 256


@dataclass(frozen=True)
class ImageFile:
    """An image, identified by its content, and where it is.

    Attributes:
        sha256: of the file's bytes; the digest of its view where there is one.
        path: of the file.
        is_cut: whether it was cut to the region already.
        view: how it is seen; None as it is.
    """

    sha256: str
    path: Path
    is_cut: bool = False
    view: View | MirrorImage | None = None


def extract_features(
    backbone: Backbone,
    store: FeatureStore,
    files: Sequence[ImageFile],
    decode: DecodeSettings,
    device: str,
    on_images: Callable[[int], None] = lambda _: None,
) -> int:
    """Compute features of the images that the store lacks; continues where an earlier pass stopped.

    Args:
        backbone: the store's backbone.
        store: receives a shard per 256 images.
        files: images that can be decoded; equal files are computed once.
        decode: working size and window.
        device: ``cpu`` or ``cuda``.
        on_images: receives the number of images of each finished batch.

    Returns:
        How many images were computed.
    """
    missing = list({file.sha256: file for file in files if file.sha256 not in store}.values())
    if not missing:
        return 0
    run = backbone_runner(backbone, store.folder, device)
    # The network's memory grows with the tiles that it is given at once.
    size = max(1, _BATCH // backbone.settings.tiles**2)
    batches = [missing[start : start + size] for start in range(0, len(missing), size)]
    digests: list[str] = []
    pooled: list[np.ndarray] = []
    patches: list[np.ndarray] = []
    # One thread decodes the next batch while the backbone computes this one.
    with ThreadPoolExecutor(max_workers=1) as reader:
        ahead = reader.submit(_pixels_of, batches[0], decode)
        for number, batch in enumerate(batches):
            pixels = ahead.result()
            if number + 1 < len(batches):
                ahead = reader.submit(_pixels_of, batches[number + 1], decode)
            batch_pooled, batch_patches = run(pixels)
            digests.extend(file.sha256 for file in batch)
            pooled.append(batch_pooled)
            patches.append(batch_patches)
            on_images(len(batch))
            if len(digests) >= _SHARD or number + 1 == len(batches):
                store.append(digests, np.concatenate(pooled), np.concatenate(patches))
                digests, pooled, patches = [], [], []
    return len(missing)


def _pixels_of(files: Sequence[ImageFile], decode: DecodeSettings) -> ImageArray:
    return read_pixels(
        [file.path for file in files],
        decode,
        [file.is_cut for file in files],
        [file.view for file in files],
    )
