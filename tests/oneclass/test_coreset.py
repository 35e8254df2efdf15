"""k-centre greedy in rounds selects what plain greedy selects."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oneclass.coreset import cover_radius, k_center_greedy


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


@pytest.mark.parametrize("round_points", [1, 4, 37, 2048])
@pytest.mark.parametrize(("n", "d", "k"), [(300, 5, 80), (1000, 32, 200), (500, 1, 60), (50, 3, 50)])
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
    monkeypatch.setattr("oneclass.coreset._BLOCK_ROWS", 33)
    assert k_center_greedy(points, 100, 0, 16).tolist() == plain_greedy(points, 100, 0)


@settings(max_examples=150, deadline=None)
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
