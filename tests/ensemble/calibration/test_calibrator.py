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

from contracts.errors import DataError, ModelError
from ensemble.calibration.calibrator import (
    BetaCalibrator,
    PlattCalibrator,
    TemperatureCalibrator,
)
from ensemble.calibration.fitting import CALIBRATORS, calibrator_from_json, calibrator_to_json, fit_calibrator
from ensemble.calibration.isotonic import MAX_SLOPE_OF_PLATT, IsotonicCalibrator, smoothed_targets
from tests.evaluation.made_up import two_classes, values_of

BINARY = [PlattCalibrator, BetaCalibrator, IsotonicCalibrator]


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
        (1, "platt"),
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


def test_a_missing_majority_is_refused_and_a_missing_minority_is_not():
    with pytest.raises(DataError, match="no majority rows"):
        fit_calibrator(np.zeros(5), np.ones(5, int))
    logit = np.linspace(-5, 2, 50)
    calibrated = fit_calibrator(logit, np.zeros(50, int))[0](logit)
    assert (np.diff(calibrated) > 0).all()
    assert np.abs(calibrated).max() < 20
    assert np.isfinite(fit_calibrator(np.zeros((4, 3)), np.array([0, 1, 0, 1]))[0](np.zeros((4, 3)))).all()


@pytest.mark.parametrize("n_pos", [1, 3, 9, 10])
def test_few_positives_are_said_to_be_rough(n_pos):
    sentence = fit_calibrator(*miscalibrated(300, n_pos))[1]
    assert ("the probability is rough" in sentence) == (n_pos < 10)


def test_the_slope_leaves_the_identity_with_the_number_of_positives():
    """Logits twice too large: the more positives, the nearer the slope is to one half."""
    slopes = [PlattCalibrator.fit(*miscalibrated(1000, n)).slope for n in (1, 5, 20, 80, 400)]
    assert slopes[0] > 0.7
    assert slopes[-1] == pytest.approx(0.5, abs=0.06)
    assert slopes[0] > slopes[1] > slopes[2] > slopes[3]


@pytest.mark.parametrize("calibrator", BINARY)
def test_calibration_error_shrinks(calibrator):
    logit, labels = miscalibrated(3000, 600, shift=1.5)
    fresh_logit, fresh_labels = miscalibrated(3000, 600, seed=1, shift=1.5)
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


def test_platt_is_the_posteriors_mode():
    logit, labels = miscalibrated(120, 40)
    base = np.log(40.5 / 120.5)

    def loss(v):
        f = v[0] * (logit - base) + v[1]
        return np.sum(np.logaddexp(0, f) - labels * f) + 10 * (v[0] - 1) ** 2 + 0.15 * (v[1] - base) ** 2

    slope, at_base = minimize(loss, [1.0, base], method="Nelder-Mead", options={"xatol": 1e-8}).x
    fitted = PlattCalibrator.fit(logit, labels)
    assert fitted.slope == pytest.approx(slope, abs=1e-4)
    assert fitted.intercept == pytest.approx(at_base - slope * base, abs=1e-4)


def test_beta_is_the_papers_map_and_the_posteriors_mode():
    logit, labels = miscalibrated(400, 150)
    fitted = BetaCalibrator.fit(logit, labels)
    s = expit(logit)
    np.testing.assert_allclose(fitted(logit), fitted.a * np.log(s) - fitted.b * np.log(1 - s) + fitted.c)

    def loss(v):
        q = expit(v[0] * np.log(s) - v[1] * np.log(1 - s) + v[2])
        prior = 10 * (v[0] - 1) ** 2 + 10 * (v[1] - 1) ** 2 + 0.15 * v[2] ** 2
        return prior - np.sum(labels * np.log(q) + (1 - labels) * np.log(1 - q))

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
