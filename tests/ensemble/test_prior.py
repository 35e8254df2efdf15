"""The prior shift: Bayes' rule, both forms, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import UsageError
from ensemble.prior import check_prior, probability, shift_logit

SHARE = st.floats(1e-4, 1 - 1e-4)


@given(st.floats(-10, 10), SHARE, SHARE)
def test_binary_shift_is_bayes_rule(logit, trained, deployment):
    p = probability(np.array([logit]))
    up, down = p * deployment / trained, (1 - p) * (1 - deployment) / (1 - trained)
    got = probability(shift_logit(np.array([logit]), trained, deployment))
    np.testing.assert_allclose(got, up / (up + down), rtol=1e-9, atol=1e-12)


@given(st.floats(-10, 10), SHARE, SHARE)
def test_binary_shift_there_and_back(logit, one, other):
    there = shift_logit(np.array([logit]), one, other)
    np.testing.assert_allclose(shift_logit(there, other, one), logit, atol=1e-9)


def test_known_figures():
    """23:1 against 1:1 is a logit shift of 3.14."""
    assert shift_logit(np.zeros(1), 1 / 24, 0.5)[0] == pytest.approx(np.log(23))


def test_k_class_shift_is_bayes_rule_and_agrees_with_binary():
    logits = np.random.default_rng(0).normal(size=(6, 3))
    trained, deployment = (0.7, 0.2, 0.1), (0.2, 0.3, 0.5)
    p = probability(logits) * np.divide(deployment, trained)
    got = probability(shift_logit(logits, trained, deployment))
    np.testing.assert_allclose(got, p / p.sum(axis=1, keepdims=True))
    two = np.stack([np.zeros(6), logits[:, 0]], axis=1)
    np.testing.assert_allclose(
        probability(shift_logit(two, (0.9, 0.1), (0.4, 0.6)))[:, 1],
        probability(shift_logit(logits[:, 0], 0.1, 0.6)),
    )


def test_valid_priors_pass():
    assert check_prior(0.05, 2) == 0.05
    assert check_prior(np.float32(0.5), 2) == 0.5
    assert check_prior([0.2, 0.3, 0.5], 3) == (0.2, 0.3, 0.5)


@pytest.mark.parametrize(
    ("prior", "n_classes", "words"),
    [
        (0.0, 2, "prior 0: a class share must be strictly between 0 and 1"),
        (1.0, 2, "prior 1: a class share"),
        (5, 2, "prior 5: a class share"),
        (float("nan"), 2, "prior nan: a class share"),
        ([0.5, 0.5], 2, "prior: 2 numbers for 2 classes. Give one number"),
        ([0.5, 0.5], 3, "prior: 2 numbers for 3 classes. Give 3 shares"),
        ([0.5, 0.5, 0.5], 3, "the 3 shares sum to 1.5"),
        ([0.5, 0.5, 0.0], 3, "prior 0: a class share"),
    ],
)
def test_refusals(prior, n_classes, words):
    with pytest.raises(UsageError, match=words):
        check_prior(prior, n_classes)
