"""Schedules, weight decay, and SAM against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from supervised.settings import OptimiserSettings
from supervised.whole_cnn.optimisers import SharpnessAware, build_optimiser, learning_rate_factor


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("cosine", [1.0, 0.5, 0.0]), ("step", [1.0, 1.0, 0.01]), ("constant", [1.0, 1.0, 1.0])],
)
def test_schedules_at_start_middle_and_end(schedule, expected):
    settings = OptimiserSettings(schedule=schedule)
    assert [learning_rate_factor(settings, e, 10) for e in (0, 5, 10)] == pytest.approx(expected, abs=1e-9)


def test_steps_fall_after_60_and_80_percent():
    settings = OptimiserSettings(schedule="step")
    assert [learning_rate_factor(settings, e, 10) for e in (5.9, 6, 7.9, 8)] == [1.0, 0.1, 0.1, 0.01]


def test_warmup_rises_to_the_peak():
    settings = OptimiserSettings(schedule="constant", warmup=4)
    factors = [learning_rate_factor(settings, e, 10) for e in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_vectors_are_not_decayed(kind):
    module = nn.Linear(3, 2)
    optimiser = build_optimiser(OptimiserSettings(kind=kind, weight_decay=0.1), module)
    decay = {len(p.shape): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decay == {2: 0.1, 1: 0.0}


def test_sam_steps_with_the_gradient_at_the_climbed_point():
    """Loss w1^2 + 5 w2^2 at (1, 1): by hand, step by step."""
    rho, rate = 0.3, 0.1
    w = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.double))
    optimiser = SharpnessAware(torch.optim.SGD([w], lr=rate), rho)

    def closure():
        optimiser.zero_grad()
        loss = w[0] ** 2 + 5 * w[1] ** 2
        loss.backward()
        return loss

    optimiser.step(closure)
    norm = (2.0**2 + 10.0**2) ** 0.5
    climbed = (1 + rho * 2 / norm, 1 + rho * 10 / norm)
    assert w.tolist() == pytest.approx([1 - rate * 2 * climbed[0], 1 - rate * 10 * climbed[1]])


def test_sam_follows_a_schedule():
    w = nn.Parameter(torch.ones(2, 2))
    optimiser = build_optimiser(OptimiserSettings(kind="sgd", sam=0.1), nn.ParameterList([w]))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda _: 0.5)
    assert optimiser.base.param_groups[0]["lr"] == pytest.approx(1.5e-4)
    assert schedule.get_last_lr()[0] == pytest.approx(1.5e-4)


def test_sam_and_accumulation_are_refused():
    with pytest.raises(ValueError, match="sam works on single batches"):
        OptimiserSettings(sam=0.1, accumulate=2)
