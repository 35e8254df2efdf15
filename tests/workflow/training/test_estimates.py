"""What training is said to take."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Run
from workflow.run.prepared import prepare_data
from workflow.settings.config import RunOptions, resolve_config
from workflow.training.estimates import rows_to_fit


def test_copies_count_for_members_that_learn_from_them(tiny: Run, tmp_path: Path):
    overrides = ("augment_minority.copies=2", "views=none")
    options = RunOptions(str(tiny.dataset), recipe=str(tiny.recipe), runs=tmp_path, overrides=overrides)
    config = resolve_config(options)
    data = prepare_data(config)
    n_copies = len(data.augmented)
    assert n_copies == 24
    more = {plan.name: rows_to_fit(plan, data) - len(data.train) for plan in config.members}
    # The calibrated baseline stays plain, and one-class members have no use for the minority.
    assert more == {"cnn": 0, "patchcore": 0, "deep_svdd": 0, "cnn_weighted": n_copies}
