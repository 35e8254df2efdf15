"""The feature store: whole shards or none, in any order, never too many files open."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import ModelError
from contracts.rows import FeatureShapes
from features import cache
from features.cache import FeatureStore, bytes_per_image
from features.rows import CachedRows
from imagedata.decoding.decode import DecodeSettings

SHAPES = FeatureShapes(image_size=32, pooled_dim=5, patch_channels=3, patch_grid=2)


def made_up(n, seed=0):
    rng = np.random.default_rng(seed)
    return (
        [f"{seed:02d}{i:062x}" for i in range(n)],
        rng.normal(size=(n, 5)).astype(np.float32),
        rng.normal(size=(n, 3, 2, 2)).astype(np.float16),
    )


def test_appended_rows_come_back_to_the_bit_and_in_the_asked_order(tmp_path):
    store = FeatureStore(tmp_path, SHAPES)
    parts = [made_up(4, seed) for seed in range(3)]
    for part in parts:
        store.append(*part)
    digests = [digest for part in parts for digest in part[0]]
    pooled = np.concatenate([part[1] for part in parts])
    patches = np.concatenate([part[2] for part in parts])
    order = np.array([11, 0, 5, 5, 3, 8, 0])
    for again in (store, FeatureStore(tmp_path, SHAPES)):
        asked = [digests[i] for i in order]
        assert np.array_equal(again.pooled(asked), pooled[order])
        assert np.array_equal(again.patches(asked), patches[order].astype(np.float32))
        assert again.patches(asked).dtype == np.float32
        assert digests[0] in again
        assert "f" * 64 not in again


def test_nothing_asked_nothing_given(tmp_path):
    store = FeatureStore(tmp_path, SHAPES)
    assert store.pooled([]).shape == (0, 5)
    assert store.patches([]).shape == (0, 3, 2, 2)


def test_a_shard_without_its_json_does_not_exist(tmp_path):
    store = FeatureStore(tmp_path, SHAPES)
    digests, pooled, patches = made_up(4)
    store.append(digests, pooled, patches)
    [marker] = tmp_path.glob("*.json")
    marker.unlink()
    half_written = FeatureStore(tmp_path, SHAPES)
    assert digests[0] not in half_written
    half_written.append(digests, pooled + 1, patches)
    assert np.array_equal(FeatureStore(tmp_path, SHAPES).pooled(digests), pooled + 1)


def test_the_json_is_written_last(tmp_path, monkeypatch):
    def power_cut(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "write_json", power_cut)
    store = FeatureStore(tmp_path, SHAPES)
    digests, *arrays = made_up(2)
    with pytest.raises(KeyboardInterrupt):
        store.append(digests, *arrays)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    assert digests[0] not in store
    assert digests[0] not in FeatureStore(tmp_path, SHAPES)


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(tmp_path, which, value):
    part = made_up(3)
    part[which].flat[4] = value
    store = FeatureStore(tmp_path, SHAPES)
    with pytest.raises(ModelError, match=r"not finite, .*65504.* Choose another backbone"):
        store.append(*part)
    assert not list(tmp_path.iterdir())


def test_few_files_stay_open(tmp_path, monkeypatch):
    """Two mapped files a shard: at 300,000 images all of them would pass what a process may have open."""
    monkeypatch.setattr(cache, "_OPEN_SHARDS", 3)
    store = FeatureStore(tmp_path, SHAPES)
    parts = [made_up(2, seed) for seed in range(8)]
    for part in parts:
        store.append(*part)
    for part in [*parts, *reversed(parts)]:
        assert np.array_equal(store.pooled(part[0]), part[1])
        assert len(store._open) <= 3


def test_bytes_per_image_is_what_a_shard_takes(tmp_path):
    FeatureStore(tmp_path, SHAPES).append(*made_up(1000))
    on_disk = sum(path.stat().st_size for path in tmp_path.glob("*.npy"))
    assert on_disk == pytest.approx(1000 * bytes_per_image(SHAPES), rel=0.01)


def test_cached_rows_select_and_batch(tmp_path):
    store = FeatureStore(tmp_path, SHAPES)
    digests, pooled, patches = made_up(10)
    store.append(digests, pooled, patches)
    labels = np.arange(10) % 2
    rows = CachedRows(store, digests, [tmp_path] * 10, labels, 2, DecodeSettings(32))
    some = rows.subset(np.array([7, 2, 2, 9, 0])).subset(np.array([4, 1, 0]))
    assert len(some) == 3
    assert some.labels.tolist() == [0, 0, 1]
    assert np.array_equal(some.pooled(), pooled[[0, 2, 7]])
    batches = list(rows.patches(batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert np.array_equal(np.concatenate(batches), patches.astype(np.float32))
