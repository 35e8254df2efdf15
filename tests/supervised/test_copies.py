"""Augmented copies among the rows of a fit: learnt from, counted in no share, on no judging side."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import DataError
from contracts.member import FitContext
from contracts.rows import FloatArray, IndexArray
from features.settings import BackboneSettings
from supervised.head import HeadCnn, Views
from supervised.labels import early_stopping_split, rows_to_stop_by
from supervised.settings import CnnSettings
from supervised.whole_cnn import tuned
from supervised.whole_cnn.linear import LinearCnn
from supervised.whole_cnn.tuned import TunedCnn
from tests.rows import ArrayRows, RowsWithCopies, synthetic_rows


def with_copies(rows: ArrayRows, times: int, group_size: int = 1) -> RowsWithCopies:
    sources = np.repeat(np.flatnonzero(rows.labels == rows.n_classes - 1), times)
    return RowsWithCopies(rows, sources, group_size=group_size)


@functools.cache
def _few_rows() -> ArrayRows:
    return synthetic_rows((60, 20), image_size=16)


def cnn(**changes: object) -> CnnSettings:
    return CnnSettings.model_validate(changes)


# ---- heads


@pytest.mark.parametrize("counts", [(150, 20), (90, 60, 15)])
@pytest.mark.parametrize(
    "settings", [{}, {"loss": "weighted_cross_entropy"}, {"loss": "logit_adjustment", "tau": 0.5}]
)
def test_head_with_copies_answers_for_the_real_shares(counts: tuple[int, ...], settings: dict) -> None:
    rows = synthetic_rows(counts, strength=0.4)
    member = HeadCnn(cnn(**settings, l2=0.01)).fit(with_copies(rows, 4), FitContext(0))
    ledger = member.state()[1]["prior_ledger"]
    assert ledger["exact"]
    assert ledger["trained"] == pytest.approx(np.array(counts) / sum(counts))
    module = member.to_module()
    with torch.no_grad():
        logits = module.head(module.standardise(torch.from_numpy(rows.pooled()))) + module.correction
    shares = np.array(counts) / sum(counts)
    mean = logits.softmax(dim=1).mean(dim=0).numpy()
    # Five times the minority would stand in the logits otherwise.
    assert mean == pytest.approx(shares, abs=0.03)
    plain = (logits - module.correction).softmax(dim=1).mean(dim=0).numpy()
    if not settings:
        assert plain[-1] > 1.5 * shares[-1]


def test_copies_that_equal_their_source_are_oversampling() -> None:
    """Twice each minority row by a copy, or by the sampler's quota: one head, one ledger."""
    rows = synthetic_rows((80, 20), strength=0.5)
    copied = HeadCnn(cnn(l2=1.0)).fit(with_copies(rows, 1), FitContext(0))
    sampled = HeadCnn(cnn(l2=1.0, sampler={"kind": "oversample", "cap": 0.5})).fit(rows, FitContext(0))
    np.testing.assert_allclose(copied.score(rows), sampled.score(rows), atol=2e-3)
    mine, theirs = (member.state()[1]["prior_ledger"] for member in (copied, sampled))
    assert mine["trained"] == pytest.approx(theirs["trained"])
    assert mine["effective"] == pytest.approx(theirs["effective"])


def test_standardisation_is_that_of_the_real_rows() -> None:
    rows = synthetic_rows((80, 20))
    alone = HeadCnn(cnn()).fit(rows, FitContext(0)).to_module()
    beside = HeadCnn(cnn()).fit(with_copies(rows, 5), FitContext(0)).to_module()
    assert torch.equal(alone.mean, beside.mean)
    assert torch.equal(alone.std, beside.std)


def test_a_class_must_have_real_rows() -> None:
    rows = with_copies(synthetic_rows((30, 4)), 3)
    only_copies = rows.subset(np.flatnonzero((rows.labels == 0) | rows.is_copy))
    with pytest.raises(DataError, match="class 1 has 0 training images"):
        HeadCnn(cnn()).fit(only_copies, FitContext(0))


# ---- whole networks


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(0, 4))
def test_rows_to_stop_by_are_real_and_their_copies_are_left_out(
    seed: int, group_size: int, times: int
) -> None:
    # Groups of 1 are those of rows that stand for themselves: a copy shares its source's.
    rows = with_copies(_few_rows(), times, group_size)
    fit, stop = rows_to_stop_by(rows, 0.2, seed)
    real_fit, real_stop = early_stopping_split(rows.rows.labels, rows.groups[: len(rows.rows)], 0.2, seed)
    assert stop.tolist() == real_stop.tolist()
    assert fit[~rows.is_copy[fit]].tolist() == real_fit.tolist()
    copies = fit[rows.is_copy[fit]]
    sources = set(rows.of[copies].tolist())
    assert sources == ({i for i in real_fit if rows.labels[i] == 1} if times else set())
    assert len(copies) == times * len(sources)
    assert not set(rows.groups[fit]) & set(rows.groups[stop])


def test_whole_cnn_learns_from_copies_and_answers_for_the_real_shares(monkeypatch) -> None:
    given_to: dict[str, object] = {}
    tuning = tuned.Tuning

    def watching(*arguments, **named):
        given_to.update(named)
        return tuning(*arguments, **named)

    monkeypatch.setattr(tuned, "Tuning", watching)
    rows = with_copies(synthetic_rows((40, 12)), 3)
    backbone = BackboneSettings(name="small_cnn", image_size=32)
    member = TunedCnn(cnn(tune="full", epochs=1, image_size=32), backbone).fit(rows, FitContext(0))
    fit, _ = rows_to_stop_by(rows, member.settings.validation_share, 0)
    real = fit[~rows.is_copy[fit]]
    assert given_to["trained"].tolist() == np.bincount(rows.labels[real]).tolist()
    assert given_to["shown"].tolist() == np.bincount(rows.labels[fit]).tolist()
    assert given_to["shown"][1] == 4 * given_to["trained"][1]
    ledger = member.state()[1]["prior_ledger"]
    assert ledger["trained"] == pytest.approx(np.bincount(rows.labels[real]) / len(real))
    assert ledger["exact"]


@pytest.mark.parametrize("kind", [TunedCnn, LinearCnn])
def test_what_works_on_images_themselves_takes_real_rows(kind, monkeypatch) -> None:
    rows = with_copies(synthetic_rows((30, 12)), 2)
    seen = []
    monkeypatch.setattr(
        kind, "pretrain", lambda _self, _module, pixels, _context: seen.append(pixels.positions)
    )
    tune: dict = {"tune": "linear", "image_size": 32}
    if kind is TunedCnn:
        tune |= {"tune": "full", "epochs": 1, "retrain": {"method": "crt"}}
    member = kind(cnn(**tune), BackboneSettings(name="small_cnn", image_size=32)).fit(rows, FitContext(0))
    assert not rows.is_copy[seen[0]].any()
    ledger = member.state()[1]["prior_ledger"]
    n_minority = 12 if kind is LinearCnn else np.sum(rows.labels[seen[0]] == 1)
    assert ledger["trained"][1] == pytest.approx(n_minority / len(seen[0]))


class RowsWithViews(RowsWithCopies):
    """A view of each row, which differs from it along one feature."""

    @property
    def view_of(self) -> IndexArray:
        return np.where(self.is_copy, self.of, -1)

    def pooled(self) -> FloatArray:
        pooled = super().pooled().copy()
        pooled[self.is_copy, 0] += np.random.default_rng(5).normal(0.0, 3.0, int(self.is_copy.sum()))
        return pooled


@pytest.mark.parametrize("settings", [{}, {"hidden": 8}, {"loss": "weighted_cross_entropy"}])
def test_a_heads_logits_move_less_from_images_to_their_views_and_nothing_else_counts_them(settings):
    rows = synthetic_rows((60, 20), seed=2)
    seen = RowsWithViews(rows, np.arange(len(rows)))
    plain, steady = (
        HeadCnn(CnnSettings(l2=1.0, **settings)).fit(given, FitContext(seed=0)) for given in (rows, seen)
    )
    pooled, view_of = seen.pooled(), seen.view_of

    def change(head: HeadCnn) -> float:
        module = head.raw_module()
        with torch.no_grad():
            logits = module.head(module.standardise(torch.from_numpy(pooled)))
        margin = (logits[:, 1] - logits[:, 0]).numpy()
        return float(np.abs(margin[view_of >= 0] - margin[view_of[view_of >= 0]]).mean())

    assert change(steady) < 0.5 * change(plain)
    assert steady.state()[1] == plain.state()[1]
    for name in ("mean", "std", "correction"):
        assert torch.equal(getattr(steady.raw_module(), name), getattr(plain.raw_module(), name)), name


def test_mean_change_ignores_what_all_logits_have_in_common():
    head = torch.nn.Linear(4, 3, bias=False)
    images, views = torch.randn(5, 4), torch.randn(5, 4)
    change = (head(views) - head(images)).detach()
    expected = np.mean([np.square(row - row.mean()).sum() for row in change.numpy()])
    pair = Views(images, views, np.arange(5))
    assert float(pair.mean_change(head).detach()) == pytest.approx(float(expected), rel=1e-5)
    with torch.no_grad():
        before = float(pair.mean_change(head))
        head.weight += torch.randn(1, 4)
        assert float(pair.mean_change(head)) == pytest.approx(before, rel=1e-4)
