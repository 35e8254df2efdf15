"""The fitters against scikit-learn, slow numerical gradients and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from sklearn.linear_model import LogisticRegression

from contracts.errors import ModelError
from ensemble.logistic import LogisticPrior, fit_logistic, smoothed_log_odds
from ensemble.softmax import SlopePrior, fit_softmax, one_hot, smoothed_class_targets


def two_classes(n=200, m=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, m))
    y = (rng.random(n) < 1 / (1 + np.exp(-(X[:, 0] + 0.5 * X[:, -1] - 1)))).astype(np.int64)
    y[:2] = [0, 1]
    return X, y


def around(m, precision=1.0, *, mean=0.0, intercept=0.0, intercept_precision=0.0):
    return LogisticPrior(np.full(m, mean), precision * np.eye(m), intercept, intercept_precision)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.sampled_from([0.1, 1.0, 30.0]))
def test_equals_scikit_learn_where_the_prior_is_a_ridge(seed, m, ridge):
    X, y = two_classes(m=m, seed=seed)
    fit = fit_logistic(X, y, around(m, ridge))
    want = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=5000).fit(X, y)
    np.testing.assert_allclose(fit.weights, want.coef_[0], atol=1e-5)
    assert fit.intercept == pytest.approx(want.intercept_[0], abs=1e-5)


def test_the_mode_of_any_prior_equals_a_slow_minimiser():
    X, y = two_classes(60)
    root = np.random.default_rng(2).normal(size=(3, 3))
    prior = LogisticPrior(np.array([1.0, 0.0, 2.0]), root @ root.T, -1.0, 0.3)

    def loss(v):
        logit, off = X @ v[:3] + v[3], v[:3] - prior.weights
        likelihood = np.sum(np.logaddexp(0, logit) - y * logit)
        return likelihood + 0.5 * off @ prior.precision @ off + 0.15 * (v[3] + 1) ** 2

    slow = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-7}).x
    fit = fit_logistic(X, y, prior)
    np.testing.assert_allclose(np.r_[fit.weights, fit.intercept], slow, atol=1e-4)


def test_bounds_hold_and_the_bounded_optimum_is_found():
    X, y = two_classes()
    X[:, 1] = -X[:, 0] + 0.5 * X[:, 1]
    free = fit_logistic(X, y, around(3))
    bounded = fit_logistic(X, y, around(3), lower=0.0)
    X[:, 0] *= -1
    flipped = fit_logistic(X, y, around(3), lower=0.0)
    assert free.weights[0] > 0
    assert (bounded.weights >= 0).all()
    assert flipped.weights[0] == 0.0
    # With the weight at its bound, the rest is the fit without that column.
    rest = fit_logistic(X[:, 1:], y, around(2), lower=0.0)
    np.testing.assert_allclose(flipped.weights[1:], rest.weights, atol=1e-6)


def test_a_ridge_leaves_the_intercept_alone():
    X, y = two_classes()
    fit = fit_logistic(X, y, around(3, 1e9))
    np.testing.assert_allclose(fit.weights, 0, atol=1e-5)
    assert expit(fit.intercept) == pytest.approx(y.mean(), abs=1e-6)


def test_a_class_may_be_missing_where_the_prior_holds_the_intercept():
    X = np.random.default_rng(0).normal(size=(50, 2))
    labels = np.zeros(50, np.int64)
    base = smoothed_log_odds(labels)
    assert base == pytest.approx(np.log(0.5 / 50.5))
    fit = fit_logistic(X, labels, around(2, mean=1.0, intercept=base, intercept_precision=0.3), lower=0.0)
    assert np.isfinite(fit.intercept)
    np.testing.assert_allclose(fit.weights, 1.0, atol=0.8)


def test_members_that_say_nearly_the_same_do_not_stall_the_fit():
    rng = np.random.default_rng(272)
    targets = (np.arange(400) < 20).astype(np.int64)
    base = rng.normal(size=400) + 2.5 * targets
    X = np.stack([base + s * rng.normal(size=400) for s in (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1e-4, 1e-3, 1e-2)], 1)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    fit = fit_logistic(X, targets, around(8, 0.3), lower=0.0)
    residual = expit(X @ fit.weights + fit.intercept) - targets
    gradient = (X.T @ residual + 0.3 * fit.weights) / 400
    assert np.abs(gradient[fit.weights > 0]).max() < 2e-5
    assert (gradient[fit.weights == 0] > -2e-5).all()


def test_separable_rows_and_enormous_scores_end_as_well():
    X = np.r_[np.full(20, -1.0), np.full(20, 1.0)][:, None]
    labels = (X[:, 0] > 0).astype(np.int64)
    for scale in (1.0, 1e4):
        fit = fit_logistic(scale * X, labels, around(1, mean=1.0))
        assert fit.weights[0] >= 1.0 - 1e-6


def three_classes(n=240, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    labels[:3] = [0, 1, 2]
    blocks = np.stack([2 * one_hot(labels, 3) + rng.normal(size=(n, 3)) for _ in range(2)])
    anomaly = (labels == 2)[:, None] + rng.normal(size=(n, 2))
    return blocks, anomaly, labels


@pytest.mark.parametrize("ridge", [0.3, 10.0])
def test_softmax_directions_equal_scikit_learn(ridge):
    _, anomaly, labels = three_classes()
    fit = fit_softmax(np.empty((0, 0, 0)), anomaly, one_hot(labels, 3), ridge=ridge)
    want = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=5000).fit(anomaly, labels)
    np.testing.assert_allclose(fit.directions, want.coef_.T, atol=1e-4)
    np.testing.assert_allclose(fit.intercept, want.intercept_ - want.intercept_.mean(), atol=1e-4)


def test_softmax_equals_a_slow_minimiser_without_gradients():
    blocks, anomaly, labels = three_classes(80)

    def loss(v):
        logits = v[0] * blocks[0] + v[1] * blocks[1] + anomaly @ v[2:8].reshape(2, 3) + v[8:]
        return -log_softmax(logits, axis=1)[np.arange(80), labels].sum() + 0.5 * 2.0 * (v[:8] @ v[:8])

    slow = minimize(loss, np.zeros(11), method="BFGS", options={"gtol": 1e-6, "maxiter": 2000}).x
    fit = fit_softmax(blocks, anomaly, one_hot(labels, 3), ridge=2.0)
    np.testing.assert_allclose(fit.slopes, slow[:2], atol=1e-3)
    np.testing.assert_allclose(fit.directions.ravel(), slow[2:8], atol=1e-3)
    np.testing.assert_allclose(fit.intercept, slow[8:] - slow[8:].mean(), atol=1e-3)


def test_softmax_slopes_respect_their_bound():
    blocks, anomaly, labels = three_classes()
    fit = fit_softmax(np.stack([blocks[0], -blocks[1]]), anomaly, one_hot(labels, 3), ridge=1.0, lower=0.0)
    assert fit.slopes[0] > 0
    assert fit.slopes[1] == 0.0


def test_softmax_names_an_empty_class():
    with pytest.raises(ModelError, match="class 1 of 3 has no rows"):
        fit_softmax(np.zeros((1, 2, 3)), np.empty((2, 0)), one_hot(np.array([0, 2]), 3), ridge=1.0)


def test_softmax_slopes_are_drawn_to_their_prior():
    blocks, _, labels = three_classes()
    none = np.empty((len(labels), 0))
    prior = SlopePrior(np.array([0.3, 0.9]), 1e7 * np.eye(2))
    fit = fit_softmax(blocks, none, one_hot(labels, 3), ridge=0.0, slopes=prior)
    np.testing.assert_allclose(fit.slopes, prior.mean, atol=1e-3)


def test_smoothed_class_targets_give_every_class_some_mass():
    targets = smoothed_class_targets(np.array([0, 0, 0, 1]), 3)
    np.testing.assert_allclose(targets[0], [4 / 5, 1 / 10, 1 / 10])
    np.testing.assert_allclose(targets[3], [1 / 6, 2 / 3, 1 / 6])
