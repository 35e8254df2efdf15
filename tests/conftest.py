"""Fixtures that the tests of several rooms share: real data, a tiny data set, a run trained on it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

try:
    import fcntl
except ImportError:  # on Windows, where each test session has one process
    fcntl = None  # type: ignore[assignment]

# Several pytest workers share the cores: threads of OpenMP that wait for each other by spinning make tiny
# operators ten times slower. It is read when torch and scikit-learn are loaded, so before any of them is.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.pictures import write_two_classes

# MLflow takes seconds to import and more to make its tables; the tests of tracking ask for it.
os.environ["OUTNUMBERED_TRACKING"] = "0"

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

TINY_RECIPE = """\
name: tiny
folds: 3
bootstrap: 200
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  patchcore: {bank_size: 60, candidate_patches: 300, pca_dim: 16}
  deep_svdd: {epochs: 2, hidden: 8, embedding_dim: 4}
  cnn: {max_iterations: 20}
  cnn_weighted: {max_iterations: 20}
"""


# Folders whose files train whole runs, or every member there is. They begin first, or one worker would be
# still at them when the other has nothing left.
_LONG = ("workflow", "members", "contributing", "oneclass/from_anomalib", "benchmarks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the order within a file stays."""
    here = Path(__file__).parent
    items.sort(key=lambda item: not item.path.relative_to(here).as_posix().startswith(_LONG))


@dataclass(frozen=True)
class Outcome:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Standard error in one line, whatever the width of the terminal."""
        return " ".join(self.err.split())

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document."""
        return json.loads(self.out)


def run_command(*arguments: object) -> Outcome:
    """Run a command in this process as ``python cli.py ARGUMENTS`` would."""
    import cli

    return _captured(cli.main, arguments)


def run_benchmark(*arguments: object) -> Outcome:
    """Run a benchmark in this process as ``python -m benchmarks ARGUMENTS`` would."""
    from benchmarks.__main__ import main

    return _captured(main, arguments)


def _captured(main: Callable[[list[str]], int], arguments: tuple[object, ...]) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    outcome = Outcome(code, out.getvalue(), err.getvalue())
    assert "Traceback" not in outcome.out + outcome.err
    return outcome


@dataclass(frozen=True)
class Run:
    """A run folder with the options that belong to it."""

    dataset: Path
    recipe: Path
    runs: Path

    @property
    def folder(self) -> Path:
        """Where the run keeps its files."""
        return self.runs / self.dataset.name / "tiny"

    def command(self, name: str, *arguments: object) -> Outcome:
        """Run a command on this data set with this recipe."""
        options = ("--recipe", self.recipe, "--runs", self.runs)
        return run_command(name, self.dataset, *arguments, *options)

    def copy(self, folder: Path, with_dataset: bool = False) -> Run:
        """A copy to be changed; the data set is shared unless it is to change too."""
        shutil.copytree(self.runs, folder / "runs")
        dataset = self.dataset
        if with_dataset:
            dataset = folder / self.dataset.name
            shutil.copytree(self.dataset, dataset)
        return Run(dataset, self.recipe, folder / "runs")

    def give_traced_backbones(self, runs: Path) -> None:
        """Copy the graphs of this run's backbones, without features, to where another run looks for them."""
        for graph in (self.runs / "features").glob("*/*.onnx"):
            target = runs / "features" / graph.parent.name / graph.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(graph, target)

    def fit_bytes(self) -> dict[str, bytes]:
        """File of each fit → its content."""
        members = self.folder / "members"
        return {str(path.relative_to(members)): path.read_bytes() for path in sorted(members.rglob("*.npz"))}


@pytest.fixture(scope="session")
def command() -> Callable[..., Outcome]:
    """Runs a command in this process."""
    return run_command


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real small image sets beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real image sets in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this test session that all its processes share; nothing but what ``made_once`` makes."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made-once"
    folder.mkdir(exist_ok=True)
    return folder


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Let the first process that asks make a folder's content; the others wait for it and find it.

    Args:
        folder: to be made, below ``of_all_workers``.
        make: is given the empty folder.
    """
    with folder.with_suffix(".lock").open("w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        if not done.exists():
            # A maker that failed leaves a part; the next one fails by itself.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def tiny(of_all_workers: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small data set, which no test changes, and a recipe for it; nothing is trained."""

    def make(folder: Path) -> None:
        (folder / "tiny.yaml").write_text(TINY_RECIPE)
        write_two_classes(folder / "blotches", 45, 12, test=10)

    folder = made_once(of_all_workers / "tiny", make)
    return Run(folder / "blotches", folder / "tiny.yaml", tmp_path_factory.mktemp("tiny") / "runs")


@pytest.fixture(scope="session")
def trained(tiny: Run, of_all_workers: Path) -> Run:
    """``tiny`` after ``train-all``; not to be changed."""

    def make(folder: Path) -> None:
        run = Run(tiny.dataset, tiny.recipe, folder / "runs")
        outcome = run.command("train-all", "--json")
        assert outcome.code == 0, outcome.err
        assert outcome.json["fits_run"] == 16
        assert outcome.json["left_out"] == {}

    made = made_once(of_all_workers / "trained", make)
    # A copy for this process: commands that only read still add to the run's journals.
    if not tiny.runs.exists():
        shutil.copytree(made / "runs", tiny.runs)
    return tiny


@pytest.fixture(scope="session")
def fitted(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Outcome]:
    """A copy of ``trained`` after ``ensemble --json``, and what that said; not to be changed."""
    run = trained.copy(tmp_path_factory.mktemp("fitted"))
    outcome = run.command("ensemble", "--json")
    assert outcome.code == 0, outcome.err
    return run, outcome
