"""Classifiers fitted anew: each method against a slow, obvious version, and what it must leave alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from torch import nn

from contracts.errors import UsageError
from features.spread import floored_spread
from supervised.whole_cnn.representation_settings import RetrainSettings
from supervised.whole_cnn.retrain import (
    TAU_GRID,
    FeatureRows,
    chosen_tau,
    learned_scales,
    refit,
    tau_normalised,
)


def rows_of(counts=(120, 40, 15), dim=5, seed=0, apart=1.2):
    """Overlapping classes, so that no classifier is perfect."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(len(counts), dim)) * apart
    labels = np.repeat(np.arange(len(counts)), counts)
    features = centres[labels] + rng.normal(size=(len(labels), dim))
    return FeatureRows(torch.from_numpy(features).float(), torch.from_numpy(labels))


def plain_classifier(rows):
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(rows.features.numpy(), rows.labels.numpy())
    return torch.from_numpy(fitted.coef_).float(), torch.from_numpy(fitted.intercept_).float()


def build(method, rows=None, stop=None, **settings):
    rows = rows or rows_of()
    weight, bias = plain_classifier(rows)
    before = weight.clone(), bias.clone(), rows.features.clone()
    refitted = refit(
        RetrainSettings(method=method, **settings), weight, bias, rows, stop or rows_of((60, 20, 8), seed=1)
    )
    # Neither the trained classifier nor the representation changes under the caller's hands.
    assert all(torch.equal(*pair) for pair in zip((weight, bias, rows.features), before, strict=True))
    return weight, bias, refitted


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
def test_tau_normalisation_raises_the_norms_to_one_minus_tau(tau):
    weight, _, refitted = build("tau_norm", tau=tau)
    for old, new in zip(weight.tolist(), refitted.weight.tolist(), strict=True):
        norm = math.sqrt(sum(value**2 for value in old))
        assert math.sqrt(sum(value**2 for value in new)) == pytest.approx(norm ** (1 - tau), rel=1e-5)
        assert new == pytest.approx([value / norm**tau for value in old], rel=1e-5)
    assert torch.equal(refitted.bias, torch.zeros(3))
    assert not refitted.ledger.exact
    assert refitted.sentence == ""


def test_a_weight_vector_of_zeros_stays_finite():
    assert torch.isfinite(tau_normalised(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), 1.0)).all()


def test_tau_is_chosen_on_the_rows_set_aside():
    """Norms that follow the class counts are what tau 1 mends; honest norms are best left alone."""
    features = torch.eye(3).repeat(30, 1) * 2.0 + 0.8 * torch.randn(
        90, 3, generator=torch.Generator().manual_seed(0)
    )
    balanced = FeatureRows(features, torch.arange(3).repeat(30))
    lopsided = torch.diag(torch.tensor([4.0, 1.5, 0.5]))
    assert chosen_tau(lopsided, balanced) >= 0.9
    # The same norms are right where the features of the classes are that much smaller.
    honest = FeatureRows(features / torch.tensor([4.0, 1.5, 0.5]), balanced.labels)
    assert chosen_tau(lopsided, honest) <= 0.1
    settings = RetrainSettings(method="tau_norm")
    fit = rows_of(dim=3)
    refitted = refit(settings, lopsided, torch.zeros(3), fit, balanced)
    assert (
        refitted.sentence == f"tau_norm: tau {chosen_tau(lopsided, balanced):g}, chosen on 90 rows set aside"
    )
    torch.testing.assert_close(refitted.weight, tau_normalised(lopsided, chosen_tau(lopsided, balanced)))
    assert refit(settings, lopsided, torch.zeros(3), fit, honest).sentence != refitted.sentence


def test_the_choice_of_tau_is_the_slow_search():
    stop = rows_of((60, 20, 8), seed=1)
    weight, _ = plain_classifier(rows_of())
    labels = stop.labels.numpy()
    counts = np.bincount(labels)

    def loss(logits):
        logits = logits - logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
        return np.mean([losses[labels == k].mean() for k in range(len(counts))])

    best = {}
    for tau in TAU_GRID:
        logits = stop.features.double().numpy() @ tau_normalised(weight.double(), tau).numpy().T
        best[tau] = min(loss(scale * logits) for scale in np.geomspace(0.05, 20, 400))
    assert best[chosen_tau(weight, stop)] == pytest.approx(min(best.values()), abs=2e-4)


def test_a_class_that_is_missing_among_the_rows_set_aside_does_not_hinder_the_choice():
    stop = rows_of((30, 10, 0), seed=1)
    assert chosen_tau(plain_classifier(rows_of())[0], stop) in TAU_GRID


def test_of_equal_taus_the_smallest_is_chosen():
    """Equal norms: tau changes the common size only, which calibration settles."""
    weight = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    assert chosen_tau(weight, rows_of((20, 20), dim=2)) == 0.0


def test_scales_are_the_slow_search_and_nothing_else_changes():
    rows = rows_of()
    weight, bias, refitted = build("lws", rows)
    scales = refitted.weight.norm(dim=1) / weight.norm(dim=1)
    torch.testing.assert_close(refitted.weight, weight * scales[:, None])
    torch.testing.assert_close(refitted.bias, bias * scales)
    assert (scales > 0).all()
    logits = nn.functional.linear(rows.features, weight, bias).double().numpy()
    labels = rows.labels.numpy()
    counts = np.bincount(labels)

    def loss(log_scales):
        total = 0.0
        for row, label in zip(logits * np.exp(log_scales), labels, strict=True):
            row_loss = math.log(sum(math.exp(value) for value in row)) - row[label]
            total += row_loss * len(labels) / (3 * counts[label])
        return (total + 0.5 * sum(log_scales**2)) / len(labels)

    slow = np.exp(minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-6}).x)
    assert scales.tolist() == pytest.approx(slow.tolist(), rel=2e-3)
    assert refitted.sentence.startswith("lws: scales ")
    assert not refitted.ledger.exact


def test_scales_stay_finite_where_the_classes_are_separated():
    rows = rows_of((30, 10), dim=3, apart=30.0)
    scales = learned_scales(*_both_sides(plain_classifier(rows)), rows, 300)
    assert torch.isfinite(scales).all()
    assert float(scales.log().abs().max()) < 5.0


def _both_sides(binary):
    """scikit-learn keeps one vector for two classes."""
    weight, bias = binary
    return torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2


def test_crt_is_a_class_balanced_logistic_regression_on_standardised_features():
    rows = rows_of()
    _, _, refitted = build("crt", rows, l2=4.0)
    features = rows.features.double().numpy()
    mean, std = features.mean(axis=0), floored_spread(features.std(axis=0))
    slow = LogisticRegression(C=1 / 4.0, class_weight="balanced", max_iter=5000, tol=1e-8).fit(
        (features - mean) / std, rows.labels.numpy()
    )
    expected = slow.decision_function((features - mean) / std)
    got = nn.functional.linear(rows.features, refitted.weight, refitted.bias).numpy()
    np.testing.assert_allclose(
        got - got.mean(axis=1, keepdims=True), expected - expected.mean(axis=1, keepdims=True), atol=2e-3
    )


def test_crt_begins_anew():
    """Whatever the trained classifier was, the same features give the same new one."""
    rows, stop = rows_of(), rows_of(seed=1)
    settings = RetrainSettings(method="crt")
    one = refit(settings, torch.ones(3, 5), torch.ones(3), rows, stop)
    other = refit(settings, torch.randn(3, 5), torch.zeros(3), rows, stop)
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(one.bias, other.bias)


def test_the_correction_of_crt_is_exact():
    """Four cells whose class shares are known: balanced training plus the ledger gives them back."""
    shares_of_cell = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.99, 0.01], [0.8, 0.2]])
    n_per_cell = 1000
    cells, labels = [], []
    for cell, shares in enumerate(shares_of_cell):
        n_minority = round(float(shares[1]) * n_per_cell)
        cells += [cell] * n_per_cell
        labels += [1] * n_minority + [0] * (n_per_cell - n_minority)
    rows = FeatureRows(nn.functional.one_hot(torch.tensor(cells)).float(), torch.tensor(labels))
    refitted = refit(
        RetrainSettings(method="crt", l2=0.0, max_iterations=1000),
        torch.zeros(2, 4),
        torch.zeros(2),
        rows,
        rows,
    )
    logits = nn.functional.linear(torch.eye(4), refitted.weight, refitted.bias)
    corrected = torch.softmax(logits + torch.tensor(refitted.ledger.correction), dim=1)
    assert refitted.ledger.exact
    torch.testing.assert_close(corrected, shares_of_cell, atol=2e-3, rtol=0.0)
    # Without it the minority's share is overstated: that is what balancing does.
    assert (torch.softmax(logits, dim=1)[:, 1] > shares_of_cell[:, 1] + 0.02).all()


def test_a_balanced_classifier_finds_more_of_the_rare_class():
    rows, new = rows_of((300, 40, 10), apart=0.7), rows_of((200, 200, 200), seed=5, apart=0.7)

    def recall_of_rare(weight, bias):
        found = nn.functional.linear(new.features, weight, bias).argmax(dim=1)
        return float((found[new.labels == 2] == 2).float().mean())

    weight, bias = plain_classifier(rows)
    settings = RetrainSettings(method="crt", l2=1.0)
    refitted = refit(settings, weight, bias, rows, rows)
    assert recall_of_rare(refitted.weight, refitted.bias) > recall_of_rare(weight, bias) + 0.1


@pytest.mark.parametrize("method", ["crt", "tau_norm", "lws"])
def test_same_rows_same_bits_and_no_randomness(method):
    state = torch.get_rng_state()
    _, _, one = build(method)
    _, _, again = build(method)
    assert torch.equal(one.weight, again.weight)
    assert torch.equal(one.bias, again.bias)
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_to_choose_tau_on_is_a_sentence():
    rows = rows_of((6, 4))
    with pytest.raises(UsageError, match=r"no rows were set aside\. Give retrain.tau or validation_share"):
        refit(RetrainSettings(method="tau_norm"), torch.ones(2, 5), torch.zeros(2), rows, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "tau_norm", "tau": 1.1},
        {"method": "tau_norm", "tau": -0.1},
        {"method": "ncm"},
        {"temperature": 1.0},
    ],
)
def test_settings_refuse_what_cannot_be(wrong):
    with pytest.raises(ValidationError):
        RetrainSettings(**wrong)


@pytest.mark.parametrize(
    ("key", "value", "method", "use"),
    [("tau", 0.5, "crt", "tau_norm"), ("l2", 1.0, "lws", "crt"), ("max_iterations", 9, "none", "crt or lws")],
)
def test_keys_without_effect_are_refused(key, value, method, use):
    with pytest.raises(
        ValidationError, match=f"{key}: no effect with method={method}; .* set method to {use}"
    ):
        RetrainSettings(method=method, **{key: value})
