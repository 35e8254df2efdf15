"""Training that is killed, interrupted and cut off ends with the bytes of a run that was left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contracts.files import read_arrays, read_json
from tests.conftest import Run

ROOT = Path(__file__).parents[3]
DRIVER = Path(__file__).with_name("killed_run.py")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")

RECIPE = """\
name: tiny
folds: 2
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  deep_svdd: {epochs: 2, hidden: 8, embedding_dim: 4}
  cnn: {max_iterations: 20}
"""


def start(run: Run, moment: str, name: str = "train-all") -> subprocess.Popen:
    command = [
        sys.executable,
        DRIVER,
        moment,
        name,
        run.dataset,
        "--recipe",
        run.recipe,
        "--runs",
        run.runs,
    ]
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(run: Run, moment: str, name: str = "train-all") -> tuple[int, str]:
    process = start(run, moment, name)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err[-2000:]
    assert out == ""
    return process.returncode, " ".join(err.split())


def results_of(run: Run) -> dict[str, tuple[dict[str, bytes], dict]]:
    """Arrays and facts of each fit; seconds differ from run to run."""
    results = {}
    for path in sorted((run.folder / "members").rglob("*.npz")):
        arrays, meta = read_arrays(path)
        for timing in ("seconds", "score_ms"):
            meta.pop(timing)
        results[f"{path.parent.name}/{path.name}"] = ({k: v.tobytes() for k, v in arrays.items()}, meta)
    return results


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def alone(trained: Run, recipe, tmp_path) -> Run:
    """The run that nobody disturbed; its features are those of another undisturbed run."""
    run = Run(trained.dataset, recipe, tmp_path / "alone")
    shutil.copytree(trained.runs / "features", run.runs / "features")
    outcome = run.command("train-all")
    assert outcome.code == 0, outcome.err
    return run


def test_kills_and_interrupts_leave_no_trace(alone: Run, tmp_path):
    run = Run(alone.dataset, alone.recipe, tmp_path / "disturbed")
    # What a kill leaves when the features are written but not yet marked as whole.
    shutil.copytree(alone.runs / "features", run.runs / "features", ignore=shutil.ignore_patterns("*.json"))
    assert finish(run, "mid-write:2")[0] == -signal.SIGKILL
    assert len(results_of(run)) == 1
    code, said = finish(run, "interrupt:2")
    assert code == 130
    assert said.endswith("Interrupted. The same command continues where it stopped.")
    assert len(results_of(run)) == 2
    # In this process: what goes on is only what lies on the disk.
    outcome = run.command("train-all")
    assert outcome.code == 0, outcome.err
    assert results_of(run) == results_of(alone)


@pytest.mark.slow
def test_compare_goes_on_wherever_it_was_stopped(alone: Run, tmp_path):
    assert alone.command("compare").code == 0
    run = Run(alone.dataset, alone.recipe, tmp_path / "disturbed")
    shutil.copytree(alone.runs / "features", run.runs / "features")
    for moment, code, n_results in (
        ("mid-write:2", -signal.SIGKILL, 1),
        ("interrupt:3", 130, 3),
        ("measuring", -signal.SIGKILL, 6),
    ):
        assert finish(run, moment, "compare")[0] == code
        assert len(results_of(run)) == n_results
        assert not (run.folder / "comparison.json").exists()
    before = {path: path.read_bytes() for path in (run.folder / "members").rglob("*.npz")}
    assert finish(run, "never", "compare")[0] == 0
    assert {path: path.read_bytes() for path in before} == before
    assert comparison_of(run) == comparison_of(alone)


def comparison_of(run: Run) -> dict:
    """The document without what it took."""
    document = read_json(run.folder / "comparison.json")
    for row in document["rows"]:
        del row["train_seconds"], row["score_ms"]
    return document


@pytest.mark.slow
def test_kills_at_moments_of_chance(alone: Run, tmp_path):
    run = Run(alone.dataset, alone.recipe, tmp_path / "disturbed")
    seed = random.randrange(10**6)
    print("seed", seed)  # shown when the test fails
    chance = random.Random(seed)
    for _ in range(5):
        process = start(run, "never")
        time.sleep(chance.uniform(1.0, 15.0))
        process.kill()
        process.communicate()
    assert finish(run, "never")[0] == 0
    assert results_of(run) == results_of(alone)
