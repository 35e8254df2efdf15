"""Losses, weights and margins against formulas written out row by row and pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from contracts.errors import DataError, UsageError
from supervised.class_weights import (
    effective_number_weights,
    explicit_weights,
    inverse_frequency_weights,
    ldam_margins,
)
from supervised.labels import require_every_class, score_columns
from supervised.losses import auc_margin, cross_entropy, focal, partial_auc, soft_f1, with_margins
from supervised.objective import Objective
from supervised.settings import LossSettings


def some_logits(n=40, k=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, k, generator=generator)
    return logits, torch.cat([torch.arange(k), torch.randint(k, (n - k,), generator=generator)])


def probabilities(row):
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def objective(counts, **settings):
    return Objective(LossSettings(**settings), torch.tensor(counts))


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_against_the_formula(k, smoothing):
    logits, labels = some_logits(k=k)
    slow = []
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        p = probabilities(row)
        targets = [smoothing / k + (1 - smoothing) * (i == label) for i in range(k)]
        slow.append(-sum(t * math.log(q) for t, q in zip(targets, p, strict=True)))
    torch.testing.assert_close(
        cross_entropy(logits, labels, smoothing), torch.tensor(slow), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("gammas", [(0.5, 0.5, 0.5), (2.0, 2.0, 2.0), (2.0, 2.0, 0.0)])
def test_focal_against_the_formula(gammas):
    logits, labels = some_logits()
    slow = []
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        p_true = probabilities(row)[label]
        slow.append(-math.log(p_true) * (1 - p_true) ** gammas[label])
    ours = focal(logits, labels, torch.tensor(gammas))
    torch.testing.assert_close(ours, torch.tensor(slow), rtol=1e-4, atol=1e-6)


def test_focal_with_gamma_0_is_cross_entropy():
    logits, labels = some_logits()
    assert torch.equal(focal(logits, labels, torch.zeros(3)), cross_entropy(logits, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_are_finite_for_certain_rows(gamma):
    """p_true is exactly 1 or 0 in float32 here; a power of 0 has no finite slope below exponent 1."""
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    losses = focal(logits, torch.tensor([0, 0]), torch.full((2,), gamma))
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(logits.grad).all()


def test_soft_f1_of_hard_probabilities_is_one_minus_macro_f1():
    from sklearn.metrics import f1_score

    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    decided = torch.tensor([0, 0, 1, 0, 1, 0])
    logits = 200.0 * torch.nn.functional.one_hot(decided, 2).float()
    assert float(soft_f1(logits, labels)) == pytest.approx(
        1 - f1_score(labels, decided, average="macro"), abs=1e-6
    )


def test_auc_margin_against_the_saddle_point():
    """The paper's min over a, b and max over alpha, searched on grids."""
    logits, labels = some_logits(k=2)
    h = torch.softmax(logits, 1)[:, 1]
    positive, negative = h[labels == 1], h[labels == 0]
    grid = torch.linspace(0, 1, 2001)
    slow = float((positive[:, None] - grid).square().mean(0).min())
    slow += float((negative[:, None] - grid).square().mean(0).min())
    alphas = torch.linspace(0, 3, 30001)
    slow += float((2 * alphas * (1.0 + negative.mean() - positive.mean()) - alphas.square()).max())
    assert float(auc_margin(logits, labels, 1.0)) == pytest.approx(slow, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_partial_auc_against_pairs(temperature):
    logits, labels = some_logits(k=2)
    h = torch.softmax(logits.double(), 1)[:, 1]
    slow = []
    for i in h[labels == 1].tolist():
        pairs = [max(0.0, 0.8 - (i - j)) ** 2 for j in h[labels == 0].tolist()]
        slow.append(temperature * math.log(np.mean([math.exp(pair / temperature) for pair in pairs])))
    assert float(partial_auc(logits, labels, 0.8, temperature)) == pytest.approx(np.mean(slow), rel=1e-4)


@pytest.mark.parametrize("loss", [auc_margin, lambda z, y, m: partial_auc(z, y, m, 1.0)])
def test_a_batch_of_one_class_has_no_pairs_and_no_gradient(loss):
    logits = torch.randn(4, 2, requires_grad=True)
    value = loss(logits, torch.zeros(4, dtype=torch.int64), 1.0)
    value.backward()
    assert value.item() == 0.0
    assert not logits.grad.any()


def test_weights():
    counts = torch.tensor([90, 10])
    for weights in (
        inverse_frequency_weights(counts),
        effective_number_weights(counts, 0.99),
        explicit_weights(counts, (1.0, 10.0)),
    ):
        assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1.0)
    assert float(torch.div(*explicit_weights(counts, (1.0, 10.0)))) == pytest.approx(0.1)
    inverse = inverse_frequency_weights(counts)
    assert float(inverse[1] / inverse[0]) == pytest.approx(9.0)
    # The formula by hand, and its two ends: no weights, and inverse frequency.
    effective = effective_number_weights(counts, 0.99)
    assert float(effective[1] / effective[0]) == pytest.approx((1 - 0.99**90) / (1 - 0.99**10), rel=1e-5)
    torch.testing.assert_close(effective_number_weights(counts, 0.0), torch.ones(2))
    torch.testing.assert_close(effective_number_weights(counts, 1 - 1e-9), inverse, rtol=1e-4, atol=1e-6)
    with pytest.raises(UsageError, match="got 3 numbers for 2 classes"):
        explicit_weights(counts, (1.0, 2.0, 3.0))


def test_margins_are_taken_off_the_true_class_only():
    margins = ldam_margins(torch.tensor([1600, 100]), 0.5)
    torch.testing.assert_close(margins, torch.tensor([0.25, 0.5]))
    shifted = with_margins(torch.zeros(2, 2), torch.tensor([0, 1]), margins)
    torch.testing.assert_close(shifted, torch.tensor([[-0.25, 0.0], [0.0, -0.5]]))


def test_objective_against_the_formulas():
    logits, labels = some_logits(k=2)
    counts = [30, 10]
    log_shares = torch.log(torch.tensor([0.75, 0.25]))
    adjusted = cross_entropy(logits + 1.5 * log_shares, labels).mean()
    torch.testing.assert_close(objective(counts, loss="logit_adjustment", tau=1.5)(logits, labels), adjusted)
    multipliers = torch.tensor([1.0, (1 / 3) ** 0.2])
    scaled = cross_entropy(logits * multipliers + log_shares, labels).mean()
    torch.testing.assert_close(objective(counts, loss="vs", vs_gamma=0.2)(logits, labels), scaled)


def test_ldam_weighs_classes_late():
    logits, labels = some_logits(k=2)
    ldam = objective([30, 10], loss="ldam", deferred_until=0.8)
    early, late = ldam(logits, labels, progress=0.5), ldam(logits, labels, progress=0.8)
    rows = cross_entropy(with_margins(logits, labels, ldam_margins(torch.tensor([30, 10]), 0.5)), labels)
    torch.testing.assert_close(early, rows.mean())
    torch.testing.assert_close(
        late, (rows * inverse_frequency_weights(torch.tensor([30, 10]))[labels]).mean()
    )


@pytest.mark.parametrize(
    ("settings", "effective", "exact"),
    [
        ({"loss": "cross_entropy"}, (0.9, 0.1), True),
        ({"loss": "weighted_cross_entropy"}, (0.5, 0.5), True),
        ({"loss": "weighted_cross_entropy", "weights": (1.0, 3.0)}, (0.75, 0.25), True),
        ({"loss": "logit_adjustment"}, (0.5, 0.5), True),
        ({"loss": "logit_adjustment", "tau": 0.5}, (0.75, 0.25), True),
        ({"loss": "focal"}, (0.9, 0.1), False),
        ({"loss": "cross_entropy", "smoothing": 0.1}, (0.9, 0.1), False),
    ],
)
def test_the_ledger_knows_the_effective_prior(settings, effective, exact):
    ledger = objective([90, 10], **settings).ledger()
    assert ledger.effective == pytest.approx(effective)
    assert ledger.exact is exact
    expected = [math.log(a / b) for a, b in zip((0.9, 0.1), effective, strict=True)] if exact else [0.0, 0.0]
    assert ledger.correction == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("settings", [{"loss": "weighted_cross_entropy"}, {"loss": "logit_adjustment"}])
def test_corrected_logits_answer_for_the_training_shares(settings):
    """On a feature that takes two values the optimum is known: the corrected posterior is the counted one."""
    feature = torch.repeat_interleave(torch.tensor([0.0, 1.0]), torch.tensor([80, 20]))
    labels = torch.cat(
        [torch.repeat_interleave(torch.tensor([0, 1]), torch.tensor(c)) for c in ([76, 4], [12, 8])]
    )
    weight, bias = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    aim = Objective(LossSettings(**settings), torch.bincount(labels))
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = aim(feature[:, None] * weight + bias, labels)
        loss.backward()
        return loss

    optimiser.step(closure)
    logits = torch.stack([bias, weight + bias]).detach() + torch.tensor(aim.ledger().correction)
    torch.testing.assert_close(
        torch.softmax(logits, 1)[:, 1], torch.tensor([4 / 80, 8 / 20]), atol=1e-3, rtol=0
    )


def test_score_columns():
    logits = torch.tensor([[1.0, 3.0]])
    assert score_columns(logits).tolist() == [[2.0]]
    three = torch.tensor([[1.0, 2.0, 6.0]])
    assert score_columns(three).tolist() == [[-2.0, -1.0, 3.0]]


def test_a_missing_class_is_refused():
    with pytest.raises(DataError, match="class 1 has 0 training images but 1 are needed"):
        require_every_class("cnn", np.zeros(4, dtype=np.int64), 2)
