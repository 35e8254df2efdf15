"""The gate both ways, with a sentence that carries the figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensemble.stacking.gate import LEAST_GROUPS, decide_gate
from ensemble.stacking.quality import quality
from ensemble.stacking.training_scores import TrainingScores


@pytest.fixture(scope="module")
def training(make_table):
    return TrainingScores.from_table(make_table(80, 20))


NOISE = np.random.default_rng(0).normal(size=100)
SIGN = np.r_[-np.ones(80), np.ones(20)]
GOOD = 2 * SIGN + NOISE
POOR = SIGN + 2 * NOISE


def test_the_stack_is_the_default(training):
    for stack, single in ((GOOD, POOR), (GOOD, GOOD.copy())):
        gate = decide_gate(training, stack, single, "cnn", seed=0)
        assert gate.keep_stack
        assert "'cnn', is not shown to be better" in gate.sentence
        assert str(quality(stack, training.labels)) in gate.sentence
        assert str(quality(single, training.labels)) in gate.sentence


def test_a_member_that_is_shown_to_be_better_takes_its_place(training):
    gate = decide_gate(training, POOR, GOOD, "cnn", seed=0)
    assert not gate.keep_stack
    assert "'cnn' alone is the ensemble" in gate.sentence
    assert "95 % interval +" in gate.sentence


def test_a_point_estimate_is_no_evidence(training):
    slightly = GOOD + 0.1 * np.random.default_rng(1).normal(size=100)
    worse, better = sorted(
        (GOOD, slightly), key=lambda logits: quality(logits, training.labels).log_loss, reverse=True
    )
    assert quality(worse, training.labels).log_loss > quality(better, training.labels).log_loss
    assert decide_gate(training, worse, better, "cnn", seed=0).keep_stack


def test_a_lower_log_loss_alone_does_not_outweigh_better_ranks(training):
    biased = GOOD + 8
    assert quality(biased, training.labels).log_loss > quality(0.2 * POOR, training.labels).log_loss
    assert decide_gate(training, biased, 0.2 * POOR, "cnn", seed=0).keep_stack


def test_few_independent_images_are_never_evidence(training):
    # Twenty minority rows, but of nine patients only.
    groups = np.where(training.labels == 1, 1000 + np.arange(100) % (LEAST_GROUPS - 1), training.groups)
    gate = decide_gate(replace(training, groups=groups), POOR, GOOD, "cnn", seed=0)
    assert gate.keep_stack
    assert "fewer than 10 independent images (9)" in gate.sentence


def test_three_classes(make_table_3):
    training = TrainingScores.from_table(make_table_3((30, 30, 30)))
    rng = np.random.default_rng(0)
    good = 3 * np.eye(3)[training.labels] + rng.normal(size=(90, 3))
    poor = np.eye(3)[training.labels] + rng.normal(size=(90, 3))
    assert decide_gate(training, good, poor, "cnn", seed=0).keep_stack
    assert not decide_gate(training, poor, good, "cnn", seed=0).keep_stack
