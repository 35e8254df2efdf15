"""The frozen-backbone head against scikit-learn, and what its losses and settings do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from contracts.member import FitContext
from features.spread import floored_spread
from supervised.head import HeadCnn
from supervised.samplers import draw_rows
from supervised.settings import CnnSettings
from tests.rows import synthetic_rows


class Scaler:
    """What a head divides features by, for scikit-learn."""

    def __init__(self, pooled):
        self.mean, self.spread = pooled.mean(axis=0), floored_spread(pooled.std(axis=0))

    def transform(self, pooled):
        return (pooled - self.mean) / self.spread


def head(rows, **settings):
    return HeadCnn(CnnSettings(**settings)).fit(rows, FitContext(0))


@pytest.mark.parametrize("l2", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("loss", ["cross_entropy", "weighted_cross_entropy"])
def test_linear_head_is_scikit_learns_logistic_regression(l2, loss):
    """Two classes: C = 2 / l2.

    Softmax over two weight vectors w0, w1 with ridge l2/2 (|w0|^2 + |w1|^2) has its optimum at w1 = -w0
    = w/2, where w are the log-odds' weights: the ridge is l2/4 |w|^2, and scikit-learn's is |w|^2 / (2C).
    """
    rows, new = synthetic_rows((150, 30), strength=0.7), synthetic_rows((40, 40), strength=0.7, seed=1)
    scaler = Scaler(rows.pooled())
    reference = LogisticRegression(
        C=2 / l2,
        tol=1e-8,
        max_iter=5000,
        class_weight="balanced" if loss == "weighted_cross_entropy" else None,
    ).fit(scaler.transform(rows.pooled()), rows.labels)
    expected = reference.decision_function(scaler.transform(new.pooled()))
    if loss == "weighted_cross_entropy":
        # Balanced weights answer for equal shares; the ledger takes that back to the training rows'.
        expected = expected + np.log(30 / 150)
    assert expected.std() > 0.5
    ours = head(rows, l2=l2, loss=loss).score(new)[:, 0]
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=2e-3)


def test_three_classes_are_scikit_learns_with_c_1_over_l2():
    rows, new = synthetic_rows((80, 50, 30), strength=0.7), synthetic_rows((30, 30, 30), strength=0.7, seed=1)
    scaler = Scaler(rows.pooled())
    reference = LogisticRegression(C=1 / 10.0, tol=1e-8, max_iter=5000)
    reference.fit(scaler.transform(rows.pooled()), rows.labels)
    expected = reference.decision_function(scaler.transform(new.pooled()))
    expected -= expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(head(rows, l2=10.0).score(new), expected, atol=2e-3)


def test_more_features_than_rows():
    """The usual case: 1,700 pooled features and a few hundred images."""
    rows = synthetic_rows((40, 6), pooled_dim=400, strength=0.5)
    scaler = Scaler(rows.pooled())
    reference = LogisticRegression(C=2 / 100, tol=1e-8, max_iter=5000)
    reference.fit(scaler.transform(rows.pooled()), rows.labels)
    expected = reference.decision_function(scaler.transform(rows.pooled()))
    np.testing.assert_allclose(head(rows).score(rows)[:, 0], expected, atol=1e-3)


def test_a_feature_that_never_varies_is_left_alone():
    rows, new = synthetic_rows(), synthetic_rows(seed=1)
    rows.base.pooled[:, 4] = 7.0
    before = head(rows)
    new.base.pooled[:, 4] = 7.0
    expected = before.score(new)
    assert np.isfinite(expected).all()
    new.base.pooled[:, 4] = 8.0
    # Its weight was only ever pulled to 0 by the ridge.
    np.testing.assert_allclose(before.score(new), expected, atol=1e-5)


def test_a_feature_that_hardly_varies_does_not_decide_when_it_moves():
    """Divided by its own deviation, a thousandth of the others', it would move the score by hundreds."""
    rows, new = synthetic_rows(), synthetic_rows(seed=1)
    rows.base.pooled[:, 4] = 7.0 + 1e-3 * rows.base.pooled[:, 0]
    new.base.pooled[:, 4] = 7.0
    fitted = head(rows, l2=1.0)
    before = fitted.score(new)
    new.base.pooled[:, 4] = 7.5
    assert np.abs(fitted.score(new) - before).max() < 0.05 * before.std()


@pytest.mark.parametrize("loss", ["weighted_cross_entropy", "logit_adjustment"])
def test_the_ledger_takes_back_what_the_loss_does_to_the_prior(loss):
    rows, new = synthetic_rows((300, 15), strength=0.3), synthetic_rows((50, 50), strength=0.3, seed=1)
    plain, member = head(rows).score(new), head(rows, loss=loss)
    corrected = member.score(new)
    imbalance = np.log(300 / 15)
    assert (corrected - plain).mean() == pytest.approx(0.0, abs=0.25 * imbalance)
    _, meta = member.state()
    assert meta["prior_ledger"]["effective"] == pytest.approx([0.5, 0.5])
    assert meta["prior_ledger"]["recalibrate"] is False
    correction = member.to_module().correction
    assert float(correction[1] - correction[0]) == pytest.approx(-imbalance, abs=1e-5)


def test_focal_loss_with_gamma_0_is_the_plain_head():
    rows = synthetic_rows()
    focal_0 = head(rows, loss="focal", gamma=0.0).score(rows)
    np.testing.assert_allclose(focal_0, head(rows).score(rows), atol=1e-5)
    assert np.abs(head(rows, loss="focal").score(rows) - focal_0).max() > 0.1


def test_linear_head_does_not_depend_on_the_seed_and_an_mlp_does():
    rows = synthetic_rows()
    linear = [HeadCnn(CnnSettings()).fit(rows, FitContext(seed)).score(rows) for seed in (0, 1)]
    assert np.array_equal(*linear)
    settings = CnnSettings(hidden=8)
    mlp = [HeadCnn(settings).fit(rows, FitContext(seed)).score(rows) for seed in (0, 1)]
    assert not np.array_equal(*mlp)


@pytest.mark.parametrize(("kind", "cap"), [("oversample", 1.0), ("oversample", 0.5), ("class_balanced", 1.0)])
def test_a_head_counts_rows_as_often_as_they_would_be_drawn(kind, cap):
    """300 : 15 makes whole copies, so scikit-learn on repeated rows is the reference."""
    rows, new = synthetic_rows((300, 15), strength=0.3), synthetic_rows((30, 30), strength=0.3, seed=1)
    repeats = np.where(rows.labels == 1, 20 if cap == 1.0 else 10, 1)
    if kind == "class_balanced":
        repeats = np.where(rows.labels == 1, 158 / 15, 158 / 300)
    scaler = Scaler(rows.pooled())
    reference = LogisticRegression(C=2 / 100, tol=1e-8, max_iter=5000)
    reference.fit(scaler.transform(rows.pooled()), rows.labels, sample_weight=repeats)
    expected = reference.decision_function(scaler.transform(new.pooled()))
    expected += np.log(15 / 300) - np.log(1.0 if cap == 1.0 else 0.5)
    ours = head(rows, sampler={"kind": kind, "cap": cap}).score(new)[:, 0]
    np.testing.assert_allclose(ours, expected, atol=2e-3)


@pytest.mark.parametrize(("kind", "rounds"), [("undersample_each_epoch", 3), ("undersample", 1)])
def test_undersampling_is_the_mean_of_heads_on_the_choices(kind, rounds):
    rows, new = synthetic_rows((90, 15)), synthetic_rows((20, 20), seed=1)
    settings = CnnSettings(sampler={"kind": kind, "rounds": rounds})
    ours = HeadCnn(settings).fit(rows, FitContext(4)).score(new)[:, 0]
    scaler = Scaler(rows.pooled())
    slow = []
    for each in range(rounds):
        drawn = draw_rows(settings.sampler, rows.labels, 2, 4, each, rounds)
        one = LogisticRegression(C=2 / 100, tol=1e-8, max_iter=5000)
        one.fit(scaler.transform(rows.pooled()[drawn]), rows.labels[drawn])
        slow.append(one.decision_function(scaler.transform(new.pooled())))
    np.testing.assert_allclose(ours, np.mean(slow, axis=0) + np.log(15 / 90), atol=2e-3)


@pytest.mark.parametrize("key", ["epochs", "image_size", "augment", "optimiser"])
def test_keys_without_effect_on_a_head_are_refused(key):
    value = {"epochs": 3, "image_size": 64, "augment": {}, "optimiser": {}}[key]
    with pytest.raises(ValueError, match=f"{key}: no effect with tune=head"):
        CnnSettings(**{key: value})


def test_keys_without_effect_on_a_whole_cnn_are_refused():
    with pytest.raises(ValueError, match="l2: no effect with tune=full"):
        CnnSettings(tune="full", l2=1.0)


def test_no_mean_of_heads_with_a_hidden_layer():
    with pytest.raises(ValueError, match="set hidden=0"):
        CnnSettings(hidden=4, sampler={"kind": "undersample_each_epoch"})


def test_a_cosine_head_with_a_strong_ridge_is_the_nearest_class_mean():
    rows, new = synthetic_rows((200, 20)), synthetic_rows((50, 50), seed=1)
    scaler = Scaler(rows.pooled())

    def unit(pooled):
        scaled = scaler.transform(pooled)
        return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)

    means = np.stack([unit(rows.pooled()[rows.labels == k]).mean(axis=0) for k in range(2)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    cosines = unit(new.pooled()) @ means.T
    scores = head(rows, classifier="cosine", l2=1e9).score(new)[:, 0]
    np.testing.assert_allclose(np.corrcoef(scores, cosines[:, 1] - cosines[:, 0])[0, 1], 1.0, atol=1e-4)
    # The images' lengths say nothing.
    weaker = head(rows, classifier="cosine")
    module = weaker.to_module()
    standardised = torch.randn(5, rows.pooled().shape[1])
    torch.testing.assert_close(module.head(standardised), module.head(7.0 * standardised))


def test_a_cosine_head_starts_at_images_and_is_one_layer():
    for other in (
        {"hidden": 8},
        {"synthetic": {"space": "features"}},
        {"sampler": {"kind": "undersample_each_epoch"}},
    ):
        with pytest.raises(ValueError, match="set classifier=linear"):
            CnnSettings(classifier="cosine", **other)
