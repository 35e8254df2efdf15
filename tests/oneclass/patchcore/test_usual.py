"""What is usual around each patch of a bank."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oneclass.patchcore import usual
from oneclass.patchcore.usual import usual_distances


def made(n_points=300, n_bank=20, n_families=12, dim=4):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(n_points, dim, generator=generator) * torch.linspace(0.5, 3.0, n_points)[:, None]
    families = np.arange(n_points) % n_families
    chosen = np.arange(0, n_points, n_points // n_bank)[:n_bank]
    return points, families, points[chosen], families[chosen]


@pytest.mark.parametrize("block", [7, 4096])
def test_against_slow_reference(block, monkeypatch):
    monkeypatch.setattr(usual, "_BLOCK_ROWS", block)
    points, families, bank, of_bank = made()
    squares, counts = np.zeros(len(bank)), np.zeros(len(bank))
    for point, family in zip(points.double(), families, strict=True):
        to_bank = (bank.double() - point).norm(dim=1).numpy()
        to_bank[of_bank == family] = np.inf
        squares[to_bank.argmin()] += to_bank.min() ** 2
        counts[to_bank.argmin()] += 1
    expected = np.sqrt((squares.sum() / counts.sum() + squares) / (1 + counts))
    np.testing.assert_allclose(usual_distances(points, families, bank, of_bank), expected, rtol=1e-4)


def test_rough_places_have_larger_ones_than_smooth_places():
    rng = np.random.default_rng(0)
    smooth, rough = rng.normal(size=(500, 5)) * 0.1, 20 + rng.normal(size=(500, 5)) * 2.0
    points = torch.from_numpy(np.concatenate([smooth, rough])).float()
    families = np.arange(1000) % 50
    chosen = np.r_[0:500:25, 500:1000:25]
    found = usual_distances(points, families, points[chosen], families[chosen]).numpy()
    assert np.median(found[20:]) > 5 * np.median(found[:20])


def test_where_nothing_can_be_compared_all_are_alike():
    points, families, bank, of_bank = made()
    alone = np.zeros_like(families)
    assert usual_distances(points, alone, bank, np.zeros_like(of_bank)).tolist() == [1.0] * 20
    copies = torch.ones(50, 3)
    assert usual_distances(copies, np.arange(50), copies[:5], np.arange(5)).tolist() == [1.0] * 5


def test_of_many_points_an_even_share_is_compared(monkeypatch):
    points, families, bank, of_bank = made()
    monkeypatch.setattr(usual, "_MOST_POINTS", 100)
    some = usual_distances(points, families, bank, of_bank)
    monkeypatch.setattr(usual, "_MOST_POINTS", 1000)
    assert torch.equal(some, usual_distances(points[::3], families[::3], bank, of_bank))
