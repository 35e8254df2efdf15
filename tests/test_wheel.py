"""The wheel holds the packages that pyproject.toml lists, no more and no less."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files in a wheel built from the tracked files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    if listed == [""]:
        pytest.skip("no git checkout to take the tracked files from")
    copy = tmp_path_factory.mktemp("tracked")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", copy / "out", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (copy / "out").glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def setuptools_table() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_top_level_names(names, setuptools_table):
    top = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    listed = {name.rstrip("*") for name in setuptools_table["packages"]["find"]["include"]}
    assert top == listed | {f"{module}.py" for module in setuptools_table["py-modules"]}


def test_every_python_file_of_a_listed_room_is_in_it(names, setuptools_table):
    here = {
        path.relative_to(ROOT).as_posix()
        for package in {name.rstrip("*") for name in setuptools_table["packages"]["find"]["include"]}
        for path in (ROOT / package).rglob("*.py")
        if "__pycache__" not in path.parts
    }
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    assert {name for name in names if name.endswith(".py")} >= here & set(tracked)


@pytest.mark.parametrize(
    "pattern",
    [
        "imagedata/catalogue/*.yaml", "recipes/*.yaml", "reporting/templates/*", "service/web/static/*",
        "service/web/templates/*",
    ],
)  # fmt: skip
def test_data_files_come_along(names, pattern):
    expected = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}
    assert expected
    assert expected <= set(names)


def test_no_tests_in_it(names):
    assert not [name for name in names if name.startswith(("tests/", "runs/"))]
