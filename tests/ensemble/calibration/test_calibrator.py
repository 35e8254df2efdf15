"""Calibrators: which one, against references, strictly increasing, exact after a round trip."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from contracts.errors import DataError, ModelError
from ensemble.calibration.calibrator import (
    BetaCalibrator,
    InterceptCalibrator,
    PlattCalibrator,
    TemperatureCalibrator,
    smoothed_targets,
)
from ensemble.calibration.fitting import CALIBRATORS, calibrator_from_json, calibrator_to_json, fit_calibrator
from ensemble.calibration.isotonic import MAX_SLOPE_OF_PLATT, IsotonicCalibrator
from tests.evaluation.made_up import two_classes, values_of

BINARY = [InterceptCalibrator, PlattCalibrator, BetaCalibrator, IsotonicCalibrator]


def miscalibrated(n_neg, n_pos, seed=0, slope=2.0, shift=1.0):
    """Logits whose truth is (logit - shift) / slope."""
    rng = np.random.default_rng(seed)
    labels = np.r_[np.zeros(n_neg, int), np.ones(n_pos, int)]
    # Unit Gaussians at -1 and 1: the log-odds are 2 x + log prior odds.
    truth = 2 * (rng.normal(size=n_neg + n_pos) + labels * 2 - 1) + np.log(n_pos / n_neg)
    return slope * truth + shift, labels


@pytest.mark.parametrize(
    ("n_pos", "kind"),
    [
        (1, "intercept"),
        (19, "intercept"),
        (20, "platt"),
        (99, "platt"),
        (100, "beta"),
        (499, "beta"),
        (500, "isotonic"),
    ],
)
def test_the_number_of_positives_decides(n_pos, kind):
    calibrator, sentence = fit_calibrator(*miscalibrated(600, n_pos))
    assert calibrator.kind == kind
    assert kind in sentence
    assert f"{n_pos} positives" in sentence


def test_a_missing_class_is_refused():
    with pytest.raises(DataError, match="class 1 of 2 has no rows"):
        fit_calibrator(np.zeros(5), np.zeros(5, int))
    with pytest.raises(DataError, match="class 2 of 3 has no rows"):
        fit_calibrator(np.zeros((4, 3)), np.array([0, 1, 0, 1]))


@pytest.mark.parametrize("calibrator", BINARY)
def test_calibration_error_shrinks(calibrator):
    # Only the intercept can be mended by an intercept.
    slope = 1.0 if calibrator is InterceptCalibrator else 2.0
    logit, labels = miscalibrated(3000, 600, slope=slope, shift=1.5)
    fresh_logit, fresh_labels = miscalibrated(3000, 600, seed=1, slope=slope, shift=1.5)
    fitted = calibrator.fit(logit, labels)
    before, after = (
        values_of(two_classes(fresh_labels, expit(logit), 0.5))["ece"]
        for logit in (fresh_logit, fitted(fresh_logit))
    )
    assert after < 0.03
    assert after < before / 2


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(BINARY), st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 60), st.booleans())
def test_strictly_increasing_whatever_the_rows(calibrator, seed, n_pos, n_neg, reversed_ranks):
    logit, labels = miscalibrated(n_neg, n_pos, seed)
    logit = np.round(-logit if reversed_ranks else logit, 1)
    fitted = calibrator.fit(logit, labels)
    grid = np.unique(np.r_[np.linspace(-12, 12, 301), logit])
    grid = grid[np.r_[True, np.diff(grid) > 1e-6]]
    calibrated = fitted(grid)
    assert np.isfinite(calibrated).all()
    assert (np.diff(calibrated) > 0).all()


@pytest.mark.parametrize("calibrator", BINARY)
def test_perfect_separation_stays_finite(calibrator):
    logit = np.r_[np.linspace(-5, -1, 100), np.linspace(1, 5, 30)]
    labels = (logit > 0).astype(int)
    calibrated = calibrator.fit(logit, labels)(logit)
    assert np.abs(calibrated).max() < 60


@pytest.mark.parametrize("calibrator", [*BINARY, TemperatureCalibrator])
def test_round_trip_is_exact(calibrator):
    logit, labels = miscalibrated(300, 200)
    if calibrator is TemperatureCalibrator:
        logit, labels = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 3
    fitted = calibrator.fit(logit, labels)
    again = calibrator_from_json(json.loads(json.dumps(calibrator_to_json(fitted))))
    assert again == fitted
    np.testing.assert_array_equal(again(logit), fitted(logit))
    assert CALIBRATORS[fitted.kind] is calibrator


def test_unknown_kind_names_the_nearest():
    with pytest.raises(ModelError, match="Did you mean 'platt'"):
        calibrator_from_json({"kind": "plat", "state": {}})


def test_smoothed_targets_are_platts():
    np.testing.assert_allclose(smoothed_targets(np.array([0, 0, 0, 1])), [1 / 5, 1 / 5, 1 / 5, 2 / 3])


def test_intercept_restores_the_mean():
    logit, labels = miscalibrated(100, 7)
    assert expit(InterceptCalibrator.fit(logit, labels)(logit)).mean() == pytest.approx(7 / 107)


def test_platt_equals_scikit_learn_on_split_rows():
    logit, labels = miscalibrated(120, 40)
    t = smoothed_targets(labels)
    X, y, w = np.r_[logit, logit][:, None], np.r_[np.ones(160), np.zeros(160)], np.r_[t, 1 - t]
    want = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(X, y, sample_weight=w)
    fitted = PlattCalibrator.fit(logit, labels)
    assert fitted.slope == pytest.approx(want.coef_[0, 0], abs=1e-4)
    assert fitted.intercept == pytest.approx(want.intercept_[0], abs=1e-4)


def test_beta_is_the_papers_map_and_optimum():
    logit, labels = miscalibrated(400, 150)
    fitted = BetaCalibrator.fit(logit, labels)
    s, t = expit(logit), smoothed_targets(labels)
    np.testing.assert_allclose(fitted(logit), fitted.a * np.log(s) - fitted.b * np.log(1 - s) + fitted.c)

    def loss(v):
        q = expit(v[0] * np.log(s) - v[1] * np.log(1 - s) + v[2])
        return -np.mean(t * np.log(q) + (1 - t) * np.log(1 - q))

    slow = minimize(
        loss, [0.5, 0.5, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12, "maxiter": 4000}
    ).x
    np.testing.assert_allclose([fitted.a, fitted.b, fitted.c], slow, atol=1e-3)


def test_isotonic_passes_through_the_steps_centres():
    logit, labels = miscalibrated(2000, 600)
    fitted = IsotonicCalibrator.fit(logit, labels)
    targets = smoothed_targets(labels)
    steps = IsotonicRegression().fit_transform(logit, targets)
    # Merging only joins neighbours: every knot is the mean of whole steps, in order.
    knots = np.asarray(fitted.knots)
    assert len(knots) >= 5
    np.testing.assert_allclose(fitted(knots), fitted.values)
    untouched = 0
    for value in np.unique(steps):
        centre = logit[steps == value].mean()
        if np.abs(knots - centre).min() < 1e-9:
            untouched += 1
            assert expit(fitted(np.array([centre])))[0] == pytest.approx(value)
    assert untouched >= 3
    # Its rows' mean probability stays right, which a staircase joined elsewhere would not keep.
    assert expit(fitted(logit)).mean() == pytest.approx(labels.mean(), abs=0.01)


def test_isotonic_has_no_cliffs():
    logit, labels = miscalibrated(2000, 600)
    fitted = IsotonicCalibrator.fit(logit, labels)
    slopes = np.diff(fitted.values) / np.diff(fitted.knots)
    assert slopes.max() <= MAX_SLOPE_OF_PLATT * fitted.tail_slope * (1 + 1e-9)


def test_isotonic_on_reversed_ranks_is_nearly_flat_but_increasing():
    logit, labels = miscalibrated(1000, 600)
    fitted = IsotonicCalibrator.fit(-logit, labels)
    assert len(fitted.knots) <= 3
    assert np.ptp(expit(fitted(logit))) < 0.05


def test_temperature_recovers_what_was_done():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [1500, 900, 300])
    truth = 2 * np.eye(3)[labels] + rng.normal(size=(2700, 3))
    # The log-odds of unit-variance Gaussians with means 2 e_k are 2 z_k + log prior.
    fitted = TemperatureCalibrator.fit(4 * truth + [3.0, 0.0, -3.0], labels)
    assert fitted.slope == pytest.approx(0.5, abs=0.05)
    # 2 z + log share = 0.5 * (4 z + shift) + intercept, centred.
    want = np.log([1500, 900, 300]) - 0.5 * np.array([3.0, 0.0, -3.0])
    np.testing.assert_allclose(fitted.intercepts, want - want.mean(), atol=0.25)
