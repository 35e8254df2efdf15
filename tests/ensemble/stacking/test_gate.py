"""The gate both ways, with a sentence that carries the figures."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.stacking.gate import decide_gate
from ensemble.stacking.quality import quality

LABELS = np.r_[np.zeros(80, int), np.ones(20, int)]
NOISE = np.random.default_rng(0).normal(size=100)
GOOD = 4 * (LABELS - 0.5) + NOISE
POOR = 2 * (LABELS - 0.5) + 2 * NOISE


def test_a_better_stack_is_kept():
    gate = decide_gate(GOOD, POOR, LABELS, "cnn")
    assert gate.keep_stack
    assert gate.sentence.startswith("The stack is kept")
    assert str(quality(GOOD, LABELS)) in gate.sentence
    assert str(quality(POOR, LABELS)) in gate.sentence
    assert "'cnn'" in gate.sentence


def test_a_worse_stack_is_dropped_and_both_faults_are_named():
    gate = decide_gate(POOR, GOOD, LABELS, "cnn")
    assert not gate.keep_stack
    assert "'cnn' alone is the ensemble" in gate.sentence
    assert "log loss and average precision are worse" in gate.sentence


@pytest.mark.parametrize(
    ("stack", "fault"),
    [
        (3 * GOOD + 4, "log loss is worse"),  # same ranks, overconfident and biased
        (np.where(np.arange(100) == 99, -1.0, GOOD * 1.2 - 0.2), "average precision is worse"),
    ],
)
def test_one_fault_is_enough(stack, fault):
    single = GOOD if "log loss" in fault else GOOD * 0.3
    gate = decide_gate(stack, single, LABELS, "cnn")
    assert not gate.keep_stack
    assert fault in gate.sentence


def test_equal_is_not_worse():
    assert decide_gate(GOOD, GOOD.copy(), LABELS, "cnn").keep_stack


def test_three_classes():
    labels = np.arange(90) % 3
    rng = np.random.default_rng(0)
    good = 3 * np.eye(3)[labels] + rng.normal(size=(90, 3))
    poor = np.eye(3)[labels] + rng.normal(size=(90, 3))
    assert decide_gate(good, poor, labels, "cnn").keep_stack
    assert not decide_gate(poor, good, labels, "cnn").keep_stack
