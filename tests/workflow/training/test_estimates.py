"""What training is said to take."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Run
from workflow.run.fits import fits_of
from workflow.run.prepared import prepare_data
from workflow.settings.config import RunOptions, resolve_config
from workflow.training import estimates
from workflow.training.estimates import processes_for, rows_to_fit


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


@pytest.mark.parametrize(
    ("device", "seconds_per_row", "expected"),
    [
        ("cpu", 0.001, 1),
        ("cpu", 0.1, 3),
        ("cuda", 0.1, 1),
    ],
)
def test_fits_share_the_processors_where_enough_work_waits(
    tiny: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    seconds_per_row: float,
    expected: int,
):
    monkeypatch.setattr(estimates, "usable_cpus", lambda: 3)
    monkeypatch.setattr(estimates, "fit_seconds", lambda _plan, rows: rows * seconds_per_row)
    config = resolve_config(RunOptions(str(tiny.dataset), recipe=str(tiny.recipe), runs=tmp_path))
    data = prepare_data(config)
    fits = fits_of(config, data, config.members)
    assert len(data.train) * len(fits) > 600
    assert processes_for(fits, data, device) == expected
