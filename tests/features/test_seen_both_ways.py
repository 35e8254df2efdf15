"""Scores and maps of images seen as themselves and as their mirror images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from features.apply import maps_as_seen, scores_as_seen
from features.backbones import Backbone
from features.cache import FeatureStore
from features.extract import ImageFile, extract_features
from features.rows import CachedRows
from features.settings import BackboneSettings
from imagedata.decoding.decode import DecodeSettings
from imagedata.views import MirrorImage, View
from tests.rows import synthetic_rows

SIDE = 32


class Leftmost:
    """A member whose score is the red of the left edge, and whose map is the picture's red."""

    def score(self, rows):
        return self.map(rows)[:, :, 0].mean(axis=1, keepdims=True)

    def map(self, rows):
        return rows.images(np.arange(len(rows)))[..., 0].astype(np.float32)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> CachedRows:
    folder = tmp_path_factory.mktemp("seen")
    backbone = Backbone(
        BackboneSettings(
            name="test_resnet",
            weights="random",
            image_size=SIDE,
            patch_strides=(4, 8),
            pooled_strides=(8, 16),
        )
    )
    rng = np.random.default_rng(0)
    digests, paths = [f"{k:064x}" for k in range(3)], [folder / f"{k}.png" for k in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path)
    decode = DecodeSettings(SIDE)
    store = FeatureStore(folder / "features", backbone.shapes)
    files = [ImageFile(digest, path) for digest, path in zip(digests, paths, strict=True)]
    mirrored = [MirrorImage(digest) for digest in digests]
    files += [ImageFile(each.digest, path, view=each) for each, path in zip(mirrored, paths, strict=True)]
    assert extract_features(backbone, store, files, decode, "cpu") == 6
    assert extract_features(backbone, store, files, decode, "cpu") == 0
    return CachedRows(store, digests, paths, np.zeros(3, dtype=np.int64), 2, decode)


def test_mirrored_rows_are_the_same_images_with_features_and_pixels_of_their_mirror_images(rows):
    seen = rows.mirrored()
    assert seen.digests.tolist() == rows.digests.tolist()
    assert (seen.view_of == -1).all()
    assert not seen.is_copy.any()
    everything = np.arange(3)
    assert np.array_equal(seen.images(everything), rows.images(everything)[:, :, ::-1])
    assert np.abs(seen.pooled() - rows.pooled()).max() > 0.0
    [patches], [own] = seen.patches(), rows.patches()
    assert patches.shape == own.shape
    assert not np.array_equal(patches, own)
    last = seen.subset(np.array([2]))
    assert np.array_equal(last.pooled(), seen.pooled()[2:])
    assert np.array_equal(last.images(np.array([0])), seen.images(np.array([2])))
    assert MirrorImage("5" * 64).digest not in {View("5" * 64, ("mirror",)).digest, "5" * 64}


def test_scores_and_maps_are_the_mean_of_both(rows):
    member, pixels = Leftmost(), rows.images(np.arange(3))[..., 0].astype(np.float64)
    plain = scores_as_seen(member, rows, "none")
    assert np.array_equal(plain, member.score(rows))
    both = scores_as_seen(member, rows, "mirror")
    assert both.dtype == np.float32
    np.testing.assert_allclose(
        both[:, 0], (pixels[:, :, 0].mean(axis=1) + pixels[:, :, -1].mean(axis=1)) / 2, rtol=1e-5
    )
    # Mirrored back, a map of pixels is the picture itself.
    np.testing.assert_allclose(maps_as_seen(member, rows, "mirror", member.map), pixels, rtol=1e-6)
    assert maps_as_seen(member, rows, "mirror", lambda _: None) is None


def test_rows_without_mirror_images_are_named():
    with pytest.raises(TypeError, match="ArrayRows: these rows cannot be seen as their mirror images"):
        scores_as_seen(Leftmost(), synthetic_rows((3, 2)), "mirror")
