"""Which setting a run was trained with otherwise, in words."""

from __future__ import annotations

import copy

import pytest

from tests.conftest import Run
from workflow.settings.config import RunOptions, difference_of_settings, resolve_config


def settings_of(run: Run, *overrides: str, seed: int = 0) -> dict:
    options = RunOptions(str(run.dataset), recipe=str(run.recipe), overrides=overrides, seed=seed)
    return resolve_config(options).to_json()


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ((), ("folds=2",), "folds=3, but now folds=2 is asked for"),
        (("members.cnn.l2=3",), (), "members.cnn.l2=3, but now members.cnn.l2=its default is asked for"),
        ((), ("imbalance=1:9",), 'imbalance=its default, but now imbalance="1:9" is asked for'),
    ],
)
def test_the_first_difference_in_words(tiny: Run, then, now, said):
    assert difference_of_settings(settings_of(tiny, *then), settings_of(tiny, *now)) == said


def test_seed(tiny: Run):
    found = difference_of_settings(settings_of(tiny), settings_of(tiny, seed=4))
    assert found == "seed=0, but now seed=4 is asked for"


@pytest.mark.parametrize(
    "override", ["threshold=max_f1", "bootstrap=300", "title=new", "members.cnn_weighted=false"]
)
def test_what_training_does_not_heed_is_no_difference(tiny: Run, override):
    assert difference_of_settings(settings_of(tiny), settings_of(tiny, override)) is None


def test_what_came_later_is_at_its_default_and_nothing_given_is_changed(tiny: Run):
    saved, wanted = settings_of(tiny), settings_of(tiny)
    del saved["dataset"]["near_duplicates"]
    before = copy.deepcopy((saved, wanted))
    assert difference_of_settings(saved, wanted) is None
    assert (saved, wanted) == before


def test_an_edited_file_differs(tiny: Run):
    found = difference_of_settings({**settings_of(tiny), "dataset": 3}, settings_of(tiny))
    assert found is not None
    assert "is asked for" in found
