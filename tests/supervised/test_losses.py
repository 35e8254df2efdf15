"""Losses and weights against formulas written out row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from contracts.errors import DataError
from supervised.labels import require_every_class, score_columns
from supervised.losses import class_weights, row_losses


def some_logits(n=40, k=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, k, generator=generator), torch.randint(k, (n,), generator=generator)


def slow_losses(name, logits, labels, weights=None, gamma=2.0):
    losses = []
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        p_true = math.exp(row[label]) / sum(math.exp(value) for value in row)
        loss = -math.log(p_true)
        if name == "weighted_cross_entropy":
            loss *= float(weights[label])
        if name == "focal":
            loss *= (1 - p_true) ** gamma
        losses.append(loss)
    return torch.tensor(losses)


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize(
    ("name", "gamma"),
    [("cross_entropy", 2.0), ("weighted_cross_entropy", 2.0), ("focal", 0.5), ("focal", 2.0), ("focal", 5.0)],
)
def test_row_losses_against_the_formula(name, gamma, k):
    logits, labels = some_logits(k=k)
    weights = torch.linspace(0.5, 4.0, k)
    ours = row_losses(name, logits, labels, weights, gamma)
    assert ours.shape == (40,)
    torch.testing.assert_close(ours, slow_losses(name, logits, labels, weights, gamma), rtol=1e-4, atol=1e-6)


def test_focal_with_gamma_0_is_cross_entropy():
    logits, labels = some_logits()
    plain = row_losses("cross_entropy", logits, labels)
    assert torch.equal(row_losses("focal", logits, labels, gamma=0.0), plain)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_are_finite_for_certain_rows(gamma):
    """p_true is exactly 1 or 0 in float32 here; a power of 0 has no finite slope below exponent 1."""
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    losses = row_losses("focal", logits, torch.tensor([0, 0]), gamma=gamma)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(logits.grad).all()


def test_weights_have_mean_1_over_the_rows_and_balance_the_classes():
    labels = torch.tensor([0] * 90 + [1] * 8 + [2] * 2)
    weights = class_weights(labels, 3)
    torch.testing.assert_close(weights[labels].mean(), torch.tensor(1.0))
    torch.testing.assert_close(weights * torch.bincount(labels), torch.full((3,), 100 / 3))


def test_weights_of_balanced_classes_change_nothing():
    assert torch.equal(class_weights(torch.tensor([0, 1, 1, 0]), 2), torch.ones(2))


def test_weighted_loss_without_weights_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="needs class weights"):
        row_losses("weighted_cross_entropy", *some_logits())


def test_score_columns():
    logits = torch.tensor([[1.0, 4.0], [2.0, -1.0]])
    assert score_columns(logits).tolist() == [[3.0], [-3.0]]
    three = torch.tensor([[1.0, 2.0, 6.0]])
    assert score_columns(three).tolist() == [[-2.0, -1.0, 3.0]]


def test_missing_class_is_named_with_its_count_and_what_to_do():
    with pytest.raises(
        DataError,
        match=r"cnn: class 2 has 1 training images but 5 are needed\. Add images of it or use fewer",
    ):
        require_every_class("cnn", np.array([0] * 5 + [1] * 5 + [2]), 3, least=5)
    require_every_class("cnn", np.array([0, 1, 2]), 3)
