"""k-centre greedy, lazy and in rounds, selects what plain greedy selects, in its order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oneclass.patchcore import coreset
from oneclass.patchcore.coreset import cover_radius, k_center_greedy
from oneclass.patchcore.points import ArrayPoints, as_points, blocks, sample_mean


def plain_greedy(points, n_centers, seed):
    """Sener & Savarese's algorithm 1 word for word: one centre, then all distances, again and again."""
    first = int(torch.randint(len(points), (1,), generator=torch.Generator().manual_seed(seed)))
    selected = [first]
    nearest = (points - points[first]).square().sum(dim=1)
    while len(selected) < min(n_centers, len(points)) and nearest.max() > 0:
        selected.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points - points[selected[-1]]).square().sum(dim=1))
    return selected


def random_points(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("round_points", [9, 37, 2048])
@pytest.mark.parametrize(("n", "d", "k"), [(300, 5, 80), (1000, 32, 150), (500, 1, 60), (50, 3, 50)])
def test_same_order_as_plain_greedy(n, d, k, round_points):
    points = random_points(n, d, seed=n + d)
    for seed in (0, 1):
        assert k_center_greedy(points, k, seed, round_points).tolist() == plain_greedy(points, k, seed)


def test_clusters_of_very_different_size(monkeypatch):
    """The farthest points of a round then all lie together, and rounds must end early."""
    generator = torch.Generator().manual_seed(3)
    far = 100.0 + torch.randn(400, 4, generator=generator, dtype=torch.float64)
    near = torch.randn(400, 4, generator=generator, dtype=torch.float64)
    points = torch.cat([near, far])
    monkeypatch.setattr("oneclass.patchcore.points._BLOCK_ROWS", 33)
    monkeypatch.setattr(coreset, "_CENTER_BLOCK", 7)
    monkeypatch.setattr(coreset, "_MATRIX_POINTS", 11)
    assert k_center_greedy(points, 100, 0, 16).tolist() == plain_greedy(points, 100, 0)


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(st.tuples(*[st.integers(-3, 3)] * 2), min_size=1, max_size=40),
    n_centers=st.integers(1, 60),
    seed=st.integers(0, 5),
    round_points=st.integers(1, 12),
)
def test_ties_copies_and_too_many_centres(cells, n_centers, seed, round_points):
    """Points of a small grid are full of ties and copies; whole numbers make every distance exact."""
    points = torch.tensor(cells, dtype=torch.float32)
    selected = k_center_greedy(points, n_centers, seed, round_points).tolist()
    assert selected == plain_greedy(points, n_centers, seed)
    chosen = [cells[i] for i in selected]
    assert len(set(chosen)) == len(chosen)
    assert len(selected) == min(n_centers, len(set(cells)))


def clustered(n, d, seed=0):
    """Clusters of spreads and sizes that differ a hundredfold, far from the origin, with copies."""
    generator = torch.Generator().manual_seed(seed)
    middle = 40.0 + 10.0 * torch.randn(12, d, generator=generator)
    spread = torch.logspace(-2, 0.5, 12)
    which = torch.multinomial(torch.logspace(0, 2, 12), n, replacement=True, generator=generator)
    points = middle[which] + spread[which, None] * torch.randn(n, d, generator=generator)
    points[1::5] = points[::5][: len(points[1::5])]
    return points


@pytest.mark.parametrize("round_points", [40, 4096])
@pytest.mark.parametrize("d", [2, 16, 96])
def test_single_precision_points_are_selected_in_the_order_of_double_precision(d, round_points, monkeypatch):
    """Products of matrices round; bounds on that, and exact distances of the few in question, decide."""
    monkeypatch.setattr(coreset, "_CENTER_BLOCK", 32)
    monkeypatch.setattr(coreset, "_MATRIX_POINTS", 128)
    for points in (
        clustered(1500, d),
        5.0 + torch.randn(1500, d, generator=torch.Generator().manual_seed(d)),
    ):
        expected = plain_greedy(points.double(), 250, 0)
        assert k_center_greedy(points, 250, 0, round_points).tolist() == expected


@pytest.mark.parametrize("factor", [2.0**-9, 2.0**-5])
def test_coarser_products_change_no_order(monkeypatch, factor):
    """Where factors are rounded to few bits, as TensorFloat-32 does, bounds widen; more is computed anew."""
    points = clustered(800, 24)
    expected = plain_greedy(points.double(), 150, 0)
    monkeypatch.setattr(coreset, "_FACTOR_ROUNDING", {"highest": 2.5 * factor})
    generator = torch.Generator().manual_seed(1)
    product = torch.addmm

    def coarse(bias, rows, others, alpha):
        if rows.dtype == torch.float32:
            rows = rows * (1.0 + factor * (2.0 * torch.rand(rows.shape, generator=generator) - 1.0))
        return product(bias, rows, others, alpha=alpha)

    monkeypatch.setattr(torch, "addmm", coarse)
    assert k_center_greedy(points, 150, 0, 200).tolist() == expected


def test_most_points_are_compared_with_few_centres(monkeypatch):
    """What makes it fast: a third of the pairs that plain greedy computes, even in a small case."""
    pairs = []
    compare = coreset._Selection._compare

    def counted(self, points, rows, centers, start):
        pairs.append(len(points) * len(centers))
        compare(self, points, rows, centers, start)

    monkeypatch.setattr(coreset._Selection, "_compare", counted)
    monkeypatch.setattr(coreset, "_CENTER_BLOCK", 32)
    points = clustered(4000, 8)
    k_center_greedy(points, 400, 0, round_points=256)
    assert 0 < sum(pairs) < 0.35 * 4000 * 400


def test_fewer_centres_are_a_prefix():
    points = clustered(900, 6)
    all_of_them = k_center_greedy(points, 300, 0).tolist()
    for n in (1, 7, 100):
        assert k_center_greedy(points, n, 0).tolist() == all_of_them[:n]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_memory_map_is_read_as_the_tensor_it_holds(tmp_path, dtype):
    points = clustered(700, 10).numpy().astype(dtype)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    expected = k_center_greedy(torch.from_numpy(points), 120, 0, 50).tolist()
    assert k_center_greedy(mapped, 120, 0, 50).tolist() == expected
    assert expected == plain_greedy(torch.from_numpy(points).double(), 120, 0)
    assert cover_radius(mapped, mapped[expected]) == pytest.approx(
        float(
            torch.cdist(torch.from_numpy(points).double(), torch.from_numpy(points[expected]).double())
            .amin(1)
            .max()
        )
    )


def test_a_source_is_never_asked_for_more_than_a_round(monkeypatch):
    points = clustered(3000, 5).numpy()
    asked = []

    class Counting(ArrayPoints):
        def rows(self, positions):
            asked.append(len(positions))
            return super().rows(positions)

    monkeypatch.setattr("oneclass.patchcore.points._BLOCK_ROWS", 200)
    selected = k_center_greedy(Counting(points), 150, 0, round_points=100)
    assert max(asked) <= 200
    assert selected.tolist() == k_center_greedy(points, 150, 0).tolist()


def test_sources():
    points = np.arange(20, dtype=np.float32).reshape(10, 2)
    source = as_points(points)
    assert source.shape == (10, 2)
    assert as_points(source) is source
    assert [(start, rows.tolist()) for start, rows in blocks(source, 4)] == [
        (start, points[start : start + 4].tolist()) for start in (0, 4, 8)
    ]
    assert sample_mean(source).tolist() == points.mean(axis=0).tolist()


def test_copies_of_large_points_are_not_selected_twice():
    """In float32 a copy lies at a distance of rounding from its original, which must count as 0."""
    originals = 500.0 + 30.0 * random_points(20, 152).float()
    selected = k_center_greedy(originals.repeat(50, 1), 200, seed=0, round_points=64)
    assert sorted(i % 20 for i in selected.tolist()) == list(range(20))


def test_cover_radius():
    points = random_points(2000, 8).float()
    ours = k_center_greedy(points, 150, seed=0, round_points=64)
    slow = torch.tensor(plain_greedy(points, 150, 0))
    radius = cover_radius(points, points[ours])
    by_hand = (points[:, None] - points[ours][None]).norm(dim=2).amin(dim=1).max()
    assert radius == pytest.approx(float(by_hand), rel=1e-4)
    assert radius <= cover_radius(points, points[slow]) * (1 + 1e-4)
    assert radius < cover_radius(points, points[:150])


def test_first_centre_follows_the_seed():
    points = random_points(500, 3)
    assert len({int(k_center_greedy(points, 1, seed)[0]) for seed in range(10)}) > 5
