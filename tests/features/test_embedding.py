"""The map of images by their features, and who lies far from its class."""

import numpy as np
import pytest

from features import embedding
from features.embedding import embed, farthest


@pytest.fixture(scope="module")
def rows():
    """Two clusters; row 3 of class 0 lies far off, row 45 of class 1 among the others."""
    rng = np.random.default_rng(0)
    pooled = rng.normal(0, 1, (60, 70)).astype(np.float32)
    pooled[40:] += 6
    pooled[3] += 40 * rng.normal(0, 1, 70)
    pooled[45] -= 6
    labels = np.repeat([0, 1], [40, 20])
    return pooled, labels


def test_finds_planted_outliers(rows):
    found = embed(*rows, seed=0)
    assert farthest(found, rows[1], 0, 3)[0] == 3
    assert farthest(found, rows[1], 1, 1) == [45]
    assert found.foreign[45] == 1.0
    assert found.foreign[0] <= 0.2  # row 45 alone may be near
    assert found.ratio[3] > 3
    assert np.median(found.ratio[rows[1] == 0]) == pytest.approx(1.0)
    assert 0 < found.explained <= 1


def test_distances_equal_the_obvious_way(rows):
    from sklearn.decomposition import PCA

    pooled, labels = rows
    found = embed(pooled, labels, seed=0)
    standard = ((pooled - pooled.mean(axis=0)) / pooled.std(axis=0)).astype(np.float32)
    components = PCA(50, svd_solver="randomized", random_state=0).fit_transform(standard)
    for i in (0, 3, 45):
        own = [j for j in range(60) if labels[j] == labels[i] and j != i]
        near = sorted(np.linalg.norm(components[i] - components[j]) for j in own)[:5]
        assert found.distance[i] == pytest.approx(np.mean(near), rel=1e-3)


def test_same_seed_same_map_and_large_sets_by_components_alone(rows, monkeypatch):
    one, two = embed(*rows, seed=1), embed(*rows, seed=1)
    assert one.method == "t-SNE"
    np.testing.assert_array_equal(one.positions, two.positions)
    monkeypatch.setattr(embedding, "TSNE_ROWS", 50)
    assert embed(*rows, seed=1).method == "PCA"


def test_a_class_of_one_and_copies():
    pooled = np.random.default_rng(1).normal(0, 1, (12, 5)).astype(np.float32)
    pooled[6:11] = pooled[6]
    pooled[:, 4] = 2.0  # says nothing
    labels = np.array([0] * 6 + [1] * 5 + [2])
    found = embed(pooled, labels, seed=0)
    assert np.isnan(found.distance[11])
    assert farthest(found, labels, 2, 5) == []
    np.testing.assert_array_equal(found.ratio[6:11], 1.0)
    assert np.isfinite(found.positions).all()


def test_three_rows_are_enough():
    found = embed(np.eye(3, dtype=np.float32), np.array([0, 0, 1]), seed=0)
    assert found.positions.shape == (3, 2)
