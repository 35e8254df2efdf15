"""Fits on a Ray cluster leave the cached results that one machine leaves."""

import pytest

from contracts.files import read_arrays
from tests.conftest import Run


@pytest.mark.slow
def test_fits_on_a_cluster_are_those_of_one_process(trained: Run, tmp_path):
    pytest.importorskip("ray", reason="needs the extra cluster")
    run = trained.copy(tmp_path)
    before = run.fit_bytes()
    for result in (run.folder / "members" / "cnn").glob("fold-*.npz"):
        result.unlink()
    outcome = run.command("train-all", "--ray", "local", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["fits_run"] == 3
    after = run.fit_bytes()
    assert after.keys() == before.keys()
    for name in ("fold-0", "fold-1", "fold-2"):
        one, two = (
            read_arrays(r.folder / "members" / "cnn" / f"{name}.npz")[0]["scores"] for r in (trained, run)
        )
        assert two == pytest.approx(one, abs=1e-5)
