"""The share of the minority that a run assumes where the model will work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Run
from tests.workflow.run.test_prepared import config_of
from workflow.run.prepared import PreparedData, prepare_data
from workflow.run.summary import deployment_prior, prior_sentence


@pytest.fixture
def data(tiny: Run, tmp_path: Path) -> PreparedData:
    """45 and 12 images for training, a balanced test set of 10 and 10."""
    return prepare_data(config_of(tiny, tmp_path))


def test_a_balanced_test_set_does_not_make_the_minority_common(tiny: Run, tmp_path: Path, data: PreparedData):
    config = config_of(tiny, tmp_path)
    assert deployment_prior(config, data) == pytest.approx(12 / 57)
    sentence = prior_sentence(config, data)
    assert "a share of 21.05% of odd (as in training), but the test set has 50.00%" in sentence
    assert "state it with -o deployment_prior=0.05" in sentence


@pytest.mark.parametrize(
    ("override", "prior", "is_said"),
    [
        ("deployment_prior=0.01", 0.01, True),
        ("deployment_prior=0.3", 0.3, False),  # within a factor of two of the test set's 0.5
        ("deployment_prior=test", 0.5, False),
    ],
)
def test_what_is_stated_counts(
    tiny: Run, tmp_path: Path, data: PreparedData, override: str, prior: float, is_said: bool
):
    config = config_of(tiny, tmp_path, override)
    assert deployment_prior(config, data) == prior
    sentence = prior_sentence(config, data)
    assert ("(as stated), but the test set has 50.00%" in sentence) is is_said
    assert bool(sentence) is is_said


def test_the_imbalance_that_is_made_is_the_training_share(tiny: Run, tmp_path: Path):
    config = config_of(tiny, tmp_path, "imbalance=1:9")
    assert deployment_prior(config, prepare_data(config)) == pytest.approx(0.1)
