"""The patches a bank is chosen from: bounded, streamed, and projected as if all had been in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oneclass.patchcore.candidates import Candidates, draw_places
from oneclass.patchcore.moments import Moments
from oneclass.patchcore.settings import PatchCoreSettings
from tests.rows import synthetic_rows


def cells_of_rows(rows):
    """``[N, P, C]`` all patches of some rows."""
    patches = np.concatenate(list(rows.patches()))
    return patches.reshape(len(patches), patches.shape[1], -1).transpose(0, 2, 1)


def test_every_image_gives_the_same_number_and_no_cell_twice():
    rows = synthetic_rows((50, 0))
    images, cells = draw_places(rows, 200, seed=0)
    assert images.tolist() == list(range(50))
    assert cells.shape == (50, 4)
    assert all(len(set(of_image)) == 4 for of_image in cells.tolist())
    images, cells = draw_places(synthetic_rows((130, 0)), 100, seed=0)
    assert len(set(images.tolist())) == len(images) == 100
    assert cells.shape == (100, 1)
    _, cells = draw_places(rows, 10**6, seed=0)
    assert np.array_equal(np.sort(cells, axis=1), np.tile(np.arange(36), (50, 1)))


@pytest.mark.parametrize("pca_rows", ["candidates", "all"])
def test_streamed_mean_and_axes_are_those_of_all_patches_at_once(pca_rows):
    """130 images are three batches."""
    rows = synthetic_rows((130, 0), patch_channels=12)
    settings = PatchCoreSettings(pca_dim=4, candidate_patches=1000, pca_rows=pca_rows, whiten=False)
    candidates = Candidates(rows, settings, seed=3)
    cells_NPC = cells_of_rows(rows)
    drawn = np.concatenate(
        [cells_NPC[i, c] for i, c in zip(candidates.images, candidates.cells, strict=True)]
    )
    assert len(candidates) == len(drawn) == 910
    of_rows = (drawn if pca_rows == "candidates" else cells_NPC.reshape(-1, 12)).astype(np.float64)
    np.testing.assert_allclose(candidates.mean, of_rows.mean(axis=0), rtol=1e-6)
    _, axes = np.linalg.eigh(np.cov(of_rows.T, bias=True))
    alike = np.abs(axes[:, ::-1][:, :4].T @ candidates.projection.numpy())
    np.testing.assert_allclose(alike, np.eye(4), atol=1e-3)
    expected = (drawn - candidates.mean.numpy()) @ candidates.projection.numpy()
    np.testing.assert_allclose(candidates.points(), expected, atol=1e-4)
    assert candidates.dim == 4


def test_without_projection_points_are_centred_patches():
    rows = synthetic_rows((20, 0))
    candidates = Candidates(rows, PatchCoreSettings(pca_dim=None, whiten=False), seed=0)
    assert candidates.projection is None
    drawn = np.take_along_axis(cells_of_rows(rows), candidates.cells[:, :, None], axis=1).reshape(-1, 8)
    np.testing.assert_allclose(candidates.points() + candidates.mean, drawn, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_moments_of_blocks_are_moments_of_all(offset):
    points = offset + np.random.default_rng(0).normal(size=(500, 6)) * np.arange(1, 7)
    moments = Moments(6)
    for start, stop in ((0, 1), (1, 40), (40, 41), (41, 500)):
        moments.add(torch.from_numpy(points[start:stop]))
    assert moments.count == 500
    np.testing.assert_allclose(moments.mean, points.mean(axis=0))
    np.testing.assert_allclose(moments.covariance, np.cov(points.T, bias=True), rtol=1e-9, atol=1e-9)


def test_whitening_does_not_blow_up_what_hardly_varies():
    points = np.random.default_rng(0).normal(size=(400, 3)) * [10.0, 1.0, 1e-9]
    moments = Moments(3)
    moments.add(torch.from_numpy(points))
    projection = moments.projection(None, whiten=True).numpy()
    spread = ((points - points.mean(axis=0)) @ projection).std(axis=0)
    np.testing.assert_allclose(spread[:2], 1.0, rtol=1e-4)
    assert spread[2] < 1e-4
    assert Moments(3).projection(None, whiten=False) is None


def test_shrinkage_is_towards_the_mean_variance():
    """As with numpy: the covariance of the shrunken form is the identity in the whitened space."""
    points = np.random.default_rng(0).normal(size=(400, 5)) @ np.random.default_rng(1).normal(size=(5, 5))
    moments = Moments(5)
    moments.add(torch.from_numpy(points))
    covariance = np.cov(points.T, bias=True)
    shrunk = 0.8 * covariance + 0.2 * np.trace(covariance) / 5 * np.eye(5)
    for dim in (None, 3):
        projection = moments.projection(dim, whiten=True, shrinkage=0.2).double().numpy()
        np.testing.assert_allclose(projection.T @ shrunk @ projection, np.eye(dim or 5), atol=1e-5)


def test_whitening_of_constant_patches_is_finite():
    moments = Moments(3)
    moments.add(torch.ones(10, 3))
    assert torch.isfinite(moments.projection(2, whiten=True)).all()
