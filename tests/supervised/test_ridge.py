"""The ridge that a head chooses by cross-fitting within its own rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from contracts.member import FitContext
from features.settings import BackboneSettings
from supervised.head import HeadCnn
from supervised.head_module import HeadRows, Views
from supervised.ridge import GRID, choose_ridge, folds_to_choose_on
from supervised.settings import CnnSettings
from supervised.whole_cnn.linear import LinearCnn
from tests.rows import ArrayRows, RowsWithCopies, synthetic_rows
from tests.supervised.test_copies import RowsWithViews

HARD = {"strength": 0.25, "pooled_dim": 60}


def fitted(rows, sentences: list[str] | None = None, seed: int = 0, **settings) -> HeadCnn:
    context = FitContext(seed, report=(lambda _: None) if sentences is None else sentences.append)
    return HeadCnn(CnnSettings(l2="auto", **settings)).fit(rows, context)


def chosen(member: Any) -> dict[str, Any]:
    return member.state()[1]["chosen"]


def losses_by_refitting(rows, folds, settings) -> list[float]:
    """The obvious way: every ridge on every fold by a whole fit of its own, from the start."""
    found = []
    for l2 in GRID:
        losses = np.empty(len(rows))
        for fold in np.unique(folds):
            held = np.flatnonzero(folds == fold)
            head = HeadCnn(CnnSettings(l2=l2, **settings))
            logits = head.fit(rows.subset(np.flatnonzero(folds != fold)), FitContext(0)).score(
                rows.subset(held)
            )
            if rows.n_classes == 2:
                logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
            own = torch.from_numpy(rows.labels[held])
            losses[held] = torch.nn.functional.cross_entropy(
                torch.from_numpy(logits), own, reduction="none"
            ).numpy()
        found.append(float(losses.mean()))
    return found


@pytest.mark.parametrize(
    ("counts", "settings"),
    [
        ((50, 15), {}),
        ((50, 15), {"loss": "weighted_cross_entropy"}),
        ((40, 20, 12), {"loss": "logit_adjustment"}),
        ((50, 15), {"sampler": {"kind": "undersample_each_epoch", "rounds": 2}}),
        ((50, 15), {"classifier": "cosine"}),
        ((40, 12), {"hidden": 4}),
    ],
)
def test_losses_are_those_of_whole_fits_on_each_fold(counts, settings):
    """Whatever makes them fast, coordinates in the rows' own span and starts at the optimum before."""
    rows = synthetic_rows(counts, **HARD)
    folds = folds_to_choose_on(rows.labels, rows.groups, len(counts))
    assert folds is not None
    of_grid = chosen(fitted(rows, **settings))["log_loss"]
    np.testing.assert_allclose(
        list(of_grid.values()), losses_by_refitting(rows, folds, settings), rtol=2e-3, atol=2e-4
    )
    assert [float(l2) for l2 in of_grid] == list(GRID)


@pytest.mark.parametrize("settings", [{}, {"loss": "weighted_cross_entropy"}])
def test_the_head_is_the_one_of_the_ridge_that_it_records(settings):
    rows, new = synthetic_rows((50, 15), **HARD), synthetic_rows((20, 20), seed=1, **HARD)
    member = fitted(rows, **settings)
    plain = HeadCnn(CnnSettings(l2=chosen(member)["l2"], **settings)).fit(rows, FitContext(0))
    assert np.array_equal(member.score(new), plain.score(new))
    restored = HeadCnn(member.settings).restore(*member.state())
    assert restored.state()[1] == member.state()[1]
    assert "chosen" not in plain.state()[1]


def test_what_tells_nothing_apart_takes_the_strongest_and_the_seed_changes_nothing():
    sentences: list[str] = []
    rows = synthetic_rows((60, 20), strength=0.0, pooled_dim=60)
    member = fitted(rows, sentences)
    assert chosen(member)["l2"] == max(GRID)
    assert chosen(fitted(rows, seed=5)) == chosen(member)
    assert len(sentences) == 1
    assert sentences[0].startswith("l2=auto: 10000, with a cross-fitted log loss of 0.5")
    assert chosen(fitted(synthetic_rows((60, 20), strength=3.0)))["l2"] < 100


def test_a_single_independent_image_of_a_class_leaves_the_default_and_says_so():
    sentences: list[str] = []
    member = fitted(synthetic_rows((20, 1)), sentences)
    assert chosen(member) == {"l2": 100.0, "log_loss": {}}
    assert sentences == ["l2=auto: a class has too few independent images to judge ridges on, so it is 100."]


def test_the_strongest_within_one_standard_error_of_the_best_by_the_difference():
    rng = np.random.default_rng(0)
    hard = rng.gamma(1.0, 1.0, 400)
    excess = {0: 0.5, 1: 0.01, 2: 0.0005, 3: 0.0}
    # All share how hard rows are; only the difference tells ridges apart.
    noise = rng.normal(0.0, 0.02, (len(GRID), 400))
    noise -= noise.mean(axis=1, keepdims=True)
    losses = np.stack([hard + excess.get(at, 0.2) + noise[at] for at in range(len(GRID))])
    each = np.arange(400)
    assert choose_ridge(losses, each).l2 == GRID[2]
    # Four rows to a group that move together are a quarter of the evidence, and twice the error.
    together = np.repeat(noise[:, :100], 4, axis=1)
    together -= together.mean(axis=1, keepdims=True)
    losses = np.stack([np.full(400, excess.get(at, 0.2)) + together[at] for at in range(len(GRID))])
    losses[1] += 0.0025 - 0.01
    error = (losses[1] - losses[3]).reshape(100, 4)[:, 0].std(ddof=1) / 10
    assert 0.5 * error < 0.0025
    assert (choose_ridge(losses, each // 4).l2 == GRID[1]) == (error >= 0.0025)
    assert choose_ridge(losses, each).l2 == GRID[2]


def test_folds_split_no_group_and_every_class_is_outside_of_each():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(24), rng.integers(1, 6, 24))
    labels = (groups % 6 == 0).astype(np.int64)
    folds = folds_to_choose_on(labels, groups, 2)
    assert folds is not None
    for group in np.unique(groups):
        assert len(np.unique(folds[groups == group])) == 1
    for fold in np.unique(folds):
        assert set(labels[folds != fold]) == {0, 1}
    assert folds_to_choose_on(labels, np.where(labels == 1, 0, groups), 2) is None


def test_copies_and_views_of_a_group_go_with_it():
    """A copy of a held-out image that were learnt from would make every weak ridge look good."""
    groups = np.array([0, 1, 1, 2, 1])
    pooled = torch.arange(5.0)[:, None]
    views = Views(pooled[:3], pooled[:3] + 0.5, np.array([0, 1, 2]))
    rows = HeadRows(pooled, np.array([0, 1, 1, 0, 1]), np.array([False] * 4 + [True]), groups, views)
    left = rows.without_groups(np.array([1]))
    assert left.groups.tolist() == [0, 2]
    assert left.pooled[:, 0].tolist() == [0.0, 3.0]
    assert left.views is not None
    assert left.views.groups.tolist() == [0, 2]
    assert left.without_groups(np.array([0, 2])).views is None
    plain = synthetic_rows((40, 12), strength=0.0, pooled_dim=60)
    assert chosen(fitted(RowsWithCopies(plain, np.arange(len(plain)))))["l2"] >= 1_000


def test_heads_that_learn_from_views_choose_with_them():
    rows = synthetic_rows((40, 12), **HARD)
    seen = RowsWithViews(rows, np.arange(len(rows)))
    with_views, without = chosen(fitted(seen)), chosen(fitted(rows))
    assert with_views["log_loss"] != without["log_loss"]
    # The obvious way: whole fits on the images and views of each fold's other groups.
    folds = folds_to_choose_on(rows.labels, rows.groups, 2)
    pooled, n_rows = torch.from_numpy(seen.pooled()), len(rows)
    l2, losses = 100.0, np.empty(n_rows)
    for fold in np.unique(folds):
        learnt, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        views = Views(pooled[learnt], pooled[n_rows + learnt], rows.groups[learnt])
        head = HeadCnn(CnnSettings(l2=l2)).fit_features(
            pooled[learnt], rows.labels[learnt], 2, FitContext(0), None, views
        )
        logit = head.score(rows.subset(held))[:, 0].astype(np.float64)
        losses[held] = np.logaddexp(0.0, np.where(rows.labels[held] == 1, -logit, logit))
    assert with_views["log_loss"][repr(l2)] == pytest.approx(losses.mean(), rel=2e-3)


def test_linear_evaluation_chooses_too():
    class InPairs(ArrayRows):
        @property
        def groups(self):
            return self.positions // 2

        def subset(self, indices):
            return InPairs(self.base, self.positions[indices])

    settings = CnnSettings(tune="linear", image_size=32, l2="auto")
    rows = InPairs(synthetic_rows((30, 10)).base)
    member = LinearCnn(settings, BackboneSettings(name="small_cnn", image_size=32)).fit(rows, FitContext(0))
    assert chosen(member)["l2"] in GRID


@pytest.mark.parametrize(
    "settings",
    [{"loss": "focal"}, {"smoothing": 0.1}, {"loss": "auc_margin"}, {"synthetic": {"space": "features"}}],
)
def test_what_gives_no_probabilities_at_the_class_shares_is_refused(settings):
    with pytest.raises(ValidationError, match=r"l2=auto is chosen by log loss.* Give l2 a number, or set"):
        CnnSettings(l2="auto", **settings)
