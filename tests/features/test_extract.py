"""The streamed pass over images: each once, resumable, bounded."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from contracts.errors import ModelError
from features import extract
from features.backbones import Backbone
from features.cache import FeatureStore
from features.extract import ImageFile, extract_features
from features.graphs.runner import backbone_runner
from features.rows import CachedRows
from features.settings import BackboneSettings
from imagedata.decoding.decode import DecodeSettings, decode_file
from imagedata.decoding.region import Region
from imagedata.views import View

DECODE = DecodeSettings(size=32)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(extract, "_BATCH", 4)
    monkeypatch.setattr(extract, "_SHARD", 8)


@pytest.fixture(scope="module")
def backbone():
    return Backbone(
        BackboneSettings(
            name="test_resnet", weights="random", image_size=32, patch_strides=(4, 8), pooled_strides=(8, 16)
        )
    )


class Watch:
    """Counts the images that reach the backbone, and may interrupt."""

    def __init__(self, folder):
        self.seen, self.fail_after, self.folder = [], 10**9, folder

    def runner(self, backbone, folder, device):
        run = backbone_runner(backbone, self.folder, device)  # traced once for all tests

        def watched(pixels):
            if sum(self.seen) >= self.fail_after:
                raise KeyboardInterrupt
            self.seen.append(len(pixels))
            return run(pixels)

        return watched


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    return tmp_path_factory.mktemp("traced")


@pytest.fixture(autouse=True)
def watch(monkeypatch, traced):
    watch = Watch(traced)
    monkeypatch.setattr(extract, "backbone_runner", watch.runner)
    return watch


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for i in range(21):
        path = tmp_path / "images" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        made.append(ImageFile(hashlib.sha256(path.read_bytes()).hexdigest(), path))
    return made


def test_every_image_once_and_features_are_the_backbones(tmp_path, backbone, files, watch):
    store = FeatureStore(tmp_path / "store", backbone.shapes)
    told = []
    assert extract_features(backbone, store, files, DECODE, "cpu", told.append) == 21
    assert sum(watch.seen) == sum(told) == 21
    assert max(watch.seen) == 4
    assert len(list((tmp_path / "store").glob("*.json"))) == 3
    rows = CachedRows(
        store, [f.sha256 for f in files], [f.path for f in files], np.zeros(21, np.int64), 2, DECODE
    )
    pixels = torch.from_numpy(rows.images(np.array([20, 3]))).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected = backbone(pixels)
    two = rows.subset(np.array([20, 3]))
    np.testing.assert_allclose(two.pooled(), expected.pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(next(two.patches()), expected.patches, rtol=2e-3, atol=1e-4)


def test_a_second_pass_computes_nothing_and_new_images_alone(tmp_path, backbone, files, watch):
    store = FeatureStore(tmp_path / "store", backbone.shapes)
    extract_features(backbone, store, files[:10], DECODE, "cpu")
    watch.seen.clear()
    again = FeatureStore(tmp_path / "store", backbone.shapes)
    assert extract_features(backbone, again, files[:10], DECODE, "cpu") == 0
    assert watch.seen == []
    assert extract_features(backbone, again, files, DECODE, "cpu") == 11
    assert sum(watch.seen) == 11


def test_equal_bytes_are_computed_once(tmp_path, backbone, files, watch):
    twin = tmp_path / "twin.png"
    twin.write_bytes(files[0].path.read_bytes())
    store = FeatureStore(tmp_path / "store", backbone.shapes)
    doubled = [files[0], ImageFile(files[0].sha256, twin), files[1], files[0]]
    assert extract_features(backbone, store, doubled, DECODE, "cpu") == 2
    assert sum(watch.seen) == 2


def test_an_interrupted_pass_keeps_its_finished_shards_and_ends_with_the_same_bytes(
    tmp_path, backbone, files, watch
):
    whole = FeatureStore(tmp_path / "whole", backbone.shapes)
    extract_features(backbone, whole, files, DECODE, "cpu")
    watch.seen.clear()
    watch.fail_after = 12
    with pytest.raises(KeyboardInterrupt):
        extract_features(backbone, FeatureStore(tmp_path / "store", backbone.shapes), files, DECODE, "cpu")
    resumed = FeatureStore(tmp_path / "store", backbone.shapes)
    assert [file.sha256 in resumed for file in files] == [True] * 8 + [False] * 13
    watch.seen.clear()
    watch.fail_after = 10**9
    assert extract_features(backbone, resumed, files, DECODE, "cpu") == 13
    digests = [file.sha256 for file in files]
    assert np.array_equal(resumed.pooled(digests), whole.pooled(digests))
    assert np.array_equal(resumed.patches(digests), whole.patches(digests))


def test_the_runners_features_are_the_backbones_at_any_batch_size(traced, backbone):
    """ONNX Runtime computes what torch does; the patches may differ by one step of half precision."""
    run = backbone_runner(backbone, traced, "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    for batch in (1, 2, 7):
        pooled, patches = run(pixels[:batch])
        assert pooled.dtype == np.float32
        assert patches.dtype == np.float16
        np.testing.assert_allclose(pooled, expected.pooled[:batch], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(patches, expected.patches[:batch], rtol=2e-3, atol=1e-4)


def test_the_traced_backbone_is_kept(traced, backbone):
    backbone_runner(backbone, traced, "cpu")
    [kept] = traced.iterdir()
    written = kept.stat().st_mtime_ns
    backbone_runner(backbone, traced, "cpu")
    assert kept.stat().st_mtime_ns == written


def test_a_backbone_that_cannot_be_traced_is_named(tmp_path, backbone, monkeypatch):
    def no_trace(*args, **kwargs):
        raise RuntimeError("unsupported\n operator")

    monkeypatch.setattr("torch.onnx.export", no_trace)
    with pytest.raises(
        ModelError, match=r"backbone 'test_resnet': it cannot be traced to ONNX \(RuntimeError: unsup"
    ):
        backbone_runner(backbone, tmp_path, "cpu")
    assert not list(tmp_path.iterdir())


def test_a_file_that_broke_since_it_was_looked_at_is_named(tmp_path):
    from contracts.errors import DataError
    from features.rows import read_pixels

    broken = tmp_path / "gone.png"
    broken.write_bytes(b"no image any more")
    with pytest.raises(DataError, match=r"gone\.png: not an image.*run the same command again"):
        read_pixels([broken], DecodeSettings(32))


def test_copies_are_not_cut_to_the_region_twice(backbone, tmp_path):
    """A copy was made of pixels of the region, at the working size."""
    half = DecodeSettings(32, region=Region((0.0, 0.0, 0.5, 1.0)))
    source, copy = tmp_path / "source.png", tmp_path / "copy.png"
    Image.fromarray(np.random.default_rng(6).integers(0, 256, (40, 80, 3), dtype=np.uint8)).save(source)
    Image.fromarray(decode_file(source, half).pixels).save(copy)
    store = FeatureStore(tmp_path / "features", backbone.shapes)
    extract_features(backbone, store, [ImageFile("s", source), ImageFile("c", copy, True)], half, "cpu")
    rows = CachedRows(
        store,
        ["s", "c"],
        [source, copy],
        np.zeros(2, dtype=np.int64),
        2,
        half,
        is_copy=np.array([False, True]),
    )
    of_source, of_copy = rows.images(np.arange(2))
    assert np.array_equal(of_source, of_copy)
    np.testing.assert_allclose(*rows.pooled(), rtol=1e-4, atol=1e-5)


def test_a_view_is_cut_to_the_region_as_its_image_is(tmp_path):
    """Unlike an augmented copy it has no file of its own, although it is a copy to those who count."""
    half = DecodeSettings(32, region=Region((0.0, 0.0, 0.5, 1.0)))
    source = tmp_path / "source.png"
    Image.fromarray(np.random.default_rng(6).integers(0, 256, (40, 80, 3), dtype=np.uint8)).save(source)
    view = View("s", ("noise",))
    rows = CachedRows(
        FeatureStore(tmp_path / "features", None),  # type: ignore[arg-type]
        [view.digest],
        [source],
        np.zeros(1, dtype=np.int64),
        2,
        half,
        is_copy=np.array([True]),
        views=[view],
    )
    assert np.array_equal(rows.images(np.array([0]))[0], view.of(decode_file(source, half).pixels))
