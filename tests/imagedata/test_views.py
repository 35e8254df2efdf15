"""Views of images: the same for the same file, as light as promised, kept apart from the image itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from features.backbones import Backbone
from features.cache import FeatureStore
from features.extract import ImageFile, extract_features
from features.rows import CachedRows, read_pixels
from features.settings import BackboneSettings
from imagedata.decoding.decode import DecodeSettings
from imagedata.views import CHANGES, MirrorImage, View, ViewChange

SHA = "5" * 64
LABEL_SAFE = ("crop", "brightness", "encoding", "noise")


def picture(size: int = 48, *, grey: bool = False) -> np.ndarray:
    rng = np.random.default_rng(3)
    small = rng.integers(40, 200, (6, 6, 1 if grey else 3), dtype=np.uint8).repeat(3 if grey else 1, axis=2)
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))


def views(change: ViewChange, image: np.ndarray, count: int = 20) -> list[np.ndarray]:
    return [View(f"{k:064x}", (change,)).of(image) for k in range(count)]


def farthest(image: np.ndarray, others: Sequence[np.ndarray]) -> int:
    return max(int(np.abs(image.astype(int) - other).max()) for other in others)


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_keeps_shape_and_type_and_draws_anew_for_each_image(change: ViewChange):
    image = picture()
    before = image.copy()
    made = views(change, image)
    assert all(view.shape == image.shape and view.dtype == np.uint8 for view in made)
    assert len({view.tobytes() for view in made}) > (1 if change == "mirror" else 10)
    assert np.array_equal(image, before)


def test_a_mirrored_image_is_mirrored_back_by_mirroring():
    image = picture()
    made = {view.tobytes() for view in views("mirror", image)}
    assert made == {image.tobytes(), image[:, ::-1].tobytes()}


def test_a_mirror_image_is_always_one():
    image = picture()
    for sha256 in (f"{k:064x}" for k in range(9)):
        seen = MirrorImage(sha256)
        assert np.array_equal(seen.of(image), image[:, ::-1])
        assert seen.of(image).flags.c_contiguous
        assert seen.digest == MirrorImage(sha256).digest != sha256


def test_noise_is_at_most_two_levels_and_without_colour_in_half_of_grey_images():
    image = picture()
    assert farthest(image, views("noise", image)) == 2
    grey = picture(grey=True)
    without_colour = [bool((view == view[..., :1]).all()) for view in views("noise", grey, 40)]
    assert 10 < sum(without_colour) < 30
    assert not any((view == view[..., :1]).all() for view in views("noise", image))


def test_brightness_changes_by_at_most_a_tenth():
    image = picture()
    for view in views("brightness", image):
        assert np.abs(view.astype(float) - image).max() <= 0.1 * image.max() + 0.5


def test_a_crop_takes_at_most_six_percent_of_the_side():
    columns = np.broadcast_to(np.arange(0, 250, dtype=np.uint8)[None, :, None], (250, 250, 3)).copy()
    for view in views("crop", columns):
        left, right = int(view[:, 0].max()), int(view[:, -1].min())
        assert right - left >= 0.94 * 250 - 3


def test_a_view_follows_from_the_file_the_changes_and_its_number_alone():
    image = picture()
    view = View(SHA, LABEL_SAFE)
    assert np.array_equal(view.of(image), View(SHA, LABEL_SAFE).of(image))
    others = [View("6" * 64, LABEL_SAFE), View(SHA, LABEL_SAFE[:2]), View(SHA, LABEL_SAFE, 1)]
    assert len({each.digest for each in (view, *others)} | {SHA}) == 5
    assert not any(np.array_equal(view.of(image), other.of(image)) for other in others)


def test_features_of_a_view_are_kept_beside_those_of_its_image(tmp_path):
    backbone = Backbone(
        BackboneSettings(
            name="test_resnet", weights="random", image_size=32, patch_strides=(4, 8), pooled_strides=(8, 16)
        )
    )
    path = tmp_path / "one.png"
    Image.fromarray(picture()).save(path)
    decode = DecodeSettings(backbone.settings.image_size)
    view = View(SHA, ("brightness", "noise"))
    store = FeatureStore(tmp_path / "features", backbone.shapes)
    files = [ImageFile(SHA, path), ImageFile(view.digest, path, view=view)]
    assert extract_features(backbone, store, files, decode, "cpu") == 2
    assert extract_features(backbone, store, files, decode, "cpu") == 0
    rows = CachedRows(
        store, [SHA, view.digest], [path, path], np.array([0, 0]), 2, decode,
        is_copy=np.array([False, True]), views=[None, view],
    )  # fmt: skip
    plain = read_pixels([path], decode)[0]
    assert np.array_equal(rows.images(np.array([0, 1])), np.stack([plain, view.of(plain)]))
    assert np.array_equal(rows.subset(np.array([1])).images(np.array([0]))[0], view.of(plain))
    pooled = rows.pooled()
    assert 0 < np.abs(pooled[0] - pooled[1]).mean() < 0.2 * np.abs(pooled[0]).mean()
