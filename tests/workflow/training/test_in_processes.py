"""Tasks in several processes: all done, errors as of one process, and deaths with the name of the task."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from contracts.errors import DataError, ModelError
from contracts.machine import usable_cpus
from tests.conftest import Run
from tests.contracts.process_work import fail, meet
from tests.workflow.stories.test_killed_runs import DRIVER, RECIPE, ROOT, results_of
from workflow.training import train as train_all
from workflow.training.in_processes import work_in_processes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")


def test_every_task_is_done_once_by_as_many_processes_as_asked_for(tmp_path: Path) -> None:
    tasks = [str(tmp_path / f"{i}") for i in range(9)]
    assert sorted(work_in_processes(meet, tasks, 2, str)) == tasks
    by = {Path(task).read_text() for task in tasks}
    assert len(by) == 2
    assert str(os.getpid()) not in by


def test_errors_are_those_of_one_process(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"covid: too few\. Add some\."):
        list(work_in_processes(fail, [str(tmp_path / "user")], 2, str))
    with pytest.raises(OSError, match="No space left") as raised:
        list(work_in_processes(fail, [str(tmp_path / "disk")], 2, str))
    assert raised.value.filename == str(tmp_path / "disk")
    with pytest.raises(RuntimeError, match=r"(?s)fit bug: .*ZeroDivisionError: a bug"):
        list(work_in_processes(fail, [str(tmp_path / "bug")], 2, lambda task: f"fit {Path(task).name}"))


def test_a_death_is_told_with_its_task_and_ends_the_others(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    tasks = [str(slow), str(tmp_path / "killed")]
    with pytest.raises(ModelError, match=r"fit killed: the process .* ended by signal SIGKILL") as raised:
        list(work_in_processes(fail, tasks, 2, lambda task: f"fit {Path(task).name}"))
    assert "--jobs" in str(raised.value)
    assert not slow.exists() or not runs(int(slow.read_text()))


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def small(trained: Run, tmp_path: Path) -> Run:
    """A run with computed features and nothing trained."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    run = Run(trained.dataset, recipe, tmp_path / "runs")
    shutil.copytree(trained.runs / "features", run.runs / "features")
    return run


def test_as_many_threads_give_the_same_bits_in_any_number_of_processes(
    small: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Run(small.dataset, small.recipe, tmp_path / "alone")
    shutil.copytree(small.runs / "features", alone.runs / "features")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert alone.command("train-all").code == 0
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(train_all, "usable_cpus", lambda: 4)  # two threads for each of two processes
    outcome = small.command("train-all", "--jobs", 2)
    assert outcome.code == 0, outcome.err
    assert results_of(small) == results_of(alone)
    assert usable_cpus() >= 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")
def test_interrupted_it_ends_its_workers_and_goes_on(small: Run, tmp_path: Path) -> None:
    command = [sys.executable, DRIVER, "never", "train-all", small.dataset, "--recipe", small.recipe]
    command += ["--runs", small.runs, "--jobs", 2, "-o", "repeats=4"]
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not results_of(small):
        assert process.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.strip().endswith("Interrupted. The same command continues where it stopped.")
    # Workers are gone at once; multiprocessing's own helper notices a moment later.
    deadline = time.monotonic() + 20
    while any(runs(int(pid)) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if runs(int(pid))]
    kept = len(results_of(small))
    assert 0 < kept < 24
    outcome = small.command("train-all", "-o", "repeats=4", "--json")
    assert outcome.json["fits_run"] == 24 - kept
