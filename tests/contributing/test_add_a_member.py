"""CONTRIBUTING's example of a new member works as printed: one file, one registry entry, nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contributing.examples import blocks_of, copy_of_repository, python
from tests.pictures import write_two_classes

REGISTRY_START = "MEMBERS: dict[str, MemberEntry] = {\n"

RECIPE = """\
name: new
folds: 2
bootstrap: 100
backbone: {name: small_cnn_16, image_size: 32, patch_strides: [4], pooled_strides: [4]}
members:
  mean_distance: {}
  cnn: {max_iterations: 5}
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the example's file and registry entry."""
    repository = copy_of_repository(tmp_path_factory.mktemp("extended"))
    file, entry = blocks_of("Add a member")
    (repository / "oneclass" / "mean_distance.py").write_text(file, encoding="utf-8")
    registry = repository / "workflow" / "settings" / "registry.py"
    before = registry.read_text(encoding="utf-8")
    assert before.count(REGISTRY_START) == 1
    registry.write_text(before.replace(REGISTRY_START, REGISTRY_START + entry), encoding="utf-8")
    return repository


def test_its_recipe_is_checked_without_torch(extended: Path):
    script = (
        "import sys\n"
        "from workflow.settings.config import RunOptions, resolve_config\n"
        "options = RunOptions('elpv', overrides=['members.mean_distance={least_std: 0.5}'])\n"
        "print(resolve_config(options).member('mean_distance').settings.least_std, 'torch' in sys.modules)\n"
    )
    assert python(extended, "-c", script).split() == ["0.5", "False"]


def test_it_is_trained_from_the_command_line(extended: Path, tmp_path: Path):
    write_two_classes(tmp_path / "blotches", 24, 8, test=6)
    (tmp_path / "new.yaml").write_text(RECIPE, encoding="utf-8")
    command = ("train-all", tmp_path / "blotches", "--recipe", tmp_path / "new.yaml", "--json")
    outcome = json.loads(python(extended, "cli.py", *command, "--runs", tmp_path / "runs", "--device", "cpu"))
    assert outcome["left_out"] == {}
    assert outcome["fits_run"] == 2 * 3  # two members on two folds, and on all rows
    assert "mean_distance" in [
        entry["name"] for entry in json.loads(python(extended, "cli.py", "members", "--json"))
    ]


def test_the_contract_tests_run_on_it_and_pass(extended: Path):
    arguments = ("-n0", "-p", "no:cacheprovider", "tests/members/test_member_contract.py")
    said = python(extended, "-m", "pytest", *arguments, "-k", "mean_distance")
    assert " passed" in said
    assert "skipped" not in said
