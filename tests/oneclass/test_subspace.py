"""Residuals off the normal subspace, against a slow version by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn.functional import adaptive_avg_pool2d

from contracts.errors import MemberCollapsedError
from contracts.member import FitContext
from features.score_scale import ScoreScale
from features.tensors import BackboneFeatures
from oneclass.majority import families_of, held_out_parts
from oneclass.subspace import Subspace, SubspaceSettings
from tests.rows import ArrayRows, synthetic_rows


def fitted(rows, report=lambda sentence: None, **settings):
    return Subspace(SubspaceSettings(**settings)).fit(rows, FitContext(0, report=report))


class InGroups(ArrayRows):
    """Rows with groups."""

    def __init__(self, base, group_of_row, positions=None):
        super().__init__(base, positions)
        self.group_of_row = group_of_row

    @property
    def groups(self):
        return self.group_of_row[self.positions]

    def subset(self, indices):
        return InGroups(self.base, self.group_of_row, self.positions[indices])


def pooled(rows, grid):
    """``[N, C * grid²]`` cells of all rows, by torch's own pooling."""
    return np.concatenate(
        [adaptive_avg_pool2d(torch.from_numpy(p).double(), grid).flatten(1).numpy() for p in rows.patches()]
    )


def slow_residuals(normal, new, share):
    """Residual norms of ``new`` by scikit-learn's PCA of ``normal``; rows standardised with the floor."""
    mean, deviation = normal.mean(axis=0), np.sqrt(normal.var(axis=0) + normal.var(axis=0).mean())
    standard, asked = (normal - mean) / deviation, (new - mean) / deviation
    ratios = PCA(svd_solver="full").fit(standard).explained_variance_ratio_
    k = min(int(np.searchsorted(np.cumsum(ratios), share)) + 1, normal.shape[1] - 1)
    pca = PCA(k, svd_solver="full").fit(standard)
    return np.linalg.norm(asked - pca.inverse_transform(pca.transform(asked)), axis=1)


def map_of(member, rows):
    patches = torch.from_numpy(np.concatenate(list(rows.patches())))
    with torch.inference_mode():
        return member.to_module()(BackboneFeatures(torch.empty(0), torch.empty(0), patches))[1].numpy()


@pytest.mark.parametrize("majority", [20, 90])  # fewer rows than the 72 features of the finer grid, and more
def test_scores_are_the_larger_standardised_residual(majority):
    rows, new = synthetic_rows((majority, 5)), synthetic_rows((10, 10), seed=1)
    normal = rows.subset(np.flatnonzero(rows.labels == 0))
    parts = held_out_parts(families_of(normal), 0, 10)
    standardised = []
    for grid in (1, 3):
        x, asked = pooled(normal, grid), pooled(new, grid)
        held_out = np.concatenate([slow_residuals(x[~part], x[part], 0.8) for part in parts])
        scale = ScoreScale.of_reference(held_out.astype(np.float32))
        standardised.append(scale(slow_residuals(x, asked, 0.8)))
    expected = np.maximum(*standardised)
    np.testing.assert_allclose(
        fitted(rows, variance=0.8).raw_score(new)[:, 0], expected, rtol=2e-3, atol=2e-3
    )


def test_the_map_is_the_residual_of_each_patch():
    rows, new = synthetic_rows(), synthetic_rows((3, 3), seed=1)
    normal = rows.subset(np.flatnonzero(rows.labels == 0))
    cells = [np.concatenate(list(r.patches())).astype(np.float64) for r in (normal, new)]
    flat = [c.transpose(0, 2, 3, 1).reshape(-1, c.shape[1]) for c in cells]
    expected = slow_residuals(*flat, 0.8).reshape(len(new), *cells[1].shape[2:])
    np.testing.assert_allclose(map_of(fitted(rows, variance=0.8), new), expected, rtol=1e-3, atol=1e-4)


def test_the_fine_grid_sees_where_something_is():
    """Two halves that change places leave the mean of all cells as it is."""
    rows = synthetic_rows((60, 10), strength=0.0)
    rows.base.patches[:, 0, :3] += 6.0
    new = synthetic_rows((40, 0), strength=0.0, seed=1)
    new.base.patches[:, 0, :3] += 6.0
    turned = synthetic_rows((40, 0), strength=0.0, seed=1)
    turned.base.patches[:, 0, 3:] += 6.0
    coarse, both = fitted(rows, grids=(1,)), fitted(rows)
    assert coarse.score(turned).mean() - coarse.score(new).mean() < 0.5
    assert both.score(turned).mean() - both.score(new).mean() > 5.0


@pytest.mark.parametrize("kept", [0.5, 0.97])
def test_a_channel_that_is_silent_on_the_majority_does_not_drown_the_others(kept):
    rows, loud = synthetic_rows(), synthetic_rows((30, 0), seed=1)
    for made in (rows, loud):
        made.base.patches[:, 3] = 0.0
    member = fitted(rows, variance=kept)
    quiet = member.score(loud).mean()
    assert abs(quiet) < 1.0
    loud.base.patches[:, 3] = 0.3  # a deviation of an image's mean
    assert member.score(loud).mean() < quiet + 4.0


def test_features_that_do_not_depend_on_each_other_leave_a_residual():
    """97 % of the variance of two hundred rows of independent features is all eight of them."""
    rows, new = synthetic_rows((200, 0), strength=0.0), synthetic_rows((50, 0), strength=0.0, seed=1)
    reports = []
    member = fitted(rows, reports.append, grids=(1,))
    assert reports == ["subspace of 200 rows: 7 of 8 directions of 1 x 1 cells"]
    assert 0.5 < member.score(new).std() < 2.0


def test_the_scale_is_of_rows_that_no_subspace_has_seen():
    """With fewer rows than features a subspace passes through its own rows: new ones would all look odd."""
    rows, new = synthetic_rows((40, 5)), synthetic_rows((100, 0), seed=1)
    member = fitted(rows, grids=(3,))
    assert abs(member.score(new).mean()) < 0.7
    own = rows.subset(np.flatnonzero(rows.labels == 0))
    assert member.score(own).mean() < -3.0


def test_images_of_one_group_do_not_vouch_for_each_other():
    rows = synthetic_rows((60, 5))
    normal = np.flatnonzero(rows.labels == 0)
    # Thirty exposures, two of each; noise of a hundredth parts them.
    noise = np.random.default_rng(0).normal(0.0, 0.01, rows.base.patches[normal[30:]].shape)
    rows.base.patches[normal[30:]] = rows.base.patches[normal[:30]] + noise
    group_of_row = np.arange(len(rows))
    group_of_row[normal[30:]] = group_of_row[normal[:30]]
    grouped = fitted(InGroups(rows.base, group_of_row))
    new = synthetic_rows((60, 0), seed=1)
    assert abs(grouped.score(new).mean()) < 1.0
    assert fitted(rows).score(new).mean() > grouped.score(new).mean() + 0.5


def test_rows_are_bounded():
    reports = []
    fitted(synthetic_rows((60, 20)), reports.append, max_rows=30)
    assert reports[0].startswith("subspace of 30 rows: ")


def test_constant_rows_are_a_collapse():
    rows = synthetic_rows()
    rows.base.patches[:] = rows.base.patches[:1]
    with pytest.raises(MemberCollapsedError, match="subspace: collapsed, its 60 majority rows are all alike"):
        fitted(rows)


@pytest.mark.parametrize("majority", [1, 2, 3, 5])
def test_few_majority_rows_are_enough(majority):
    rows = synthetic_rows((majority, 5))
    assert np.isfinite(fitted(rows).score(rows)).all()
