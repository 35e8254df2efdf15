"""The locked requirements: demo and base install a part of what development installs; no index is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.source import ROOT

LOCKS = {name: ROOT / "requirements" / f"{name}.txt" for name in ("dev", "demo", "base")}
#: What a demo can do without, and is large.
NOT_FOR_THE_DEMO = {
    "anomalib",
    "opencv-python-headless",
    "mlflow-skinny",
    "openvino",
    "ray",
    "mypy",
    "pytest",
}


def pins(path: Path) -> dict[str, set[str]]:
    """``name==version ; marker`` → hashes of its files."""
    found: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        requirement, *hashes = line.split("--hash=")
        found[" ".join(requirement.split())] = {each.strip() for each in hashes}
    return found


@pytest.mark.parametrize("path", LOCKS.values(), ids=LOCKS)
def test_every_requirement_is_pinned_and_hashed(path):
    for requirement, hashes in pins(path).items():
        assert re.match(r"[\w.-]+==\S+( ; .+)?$", requirement), requirement
        assert hashes, requirement
        assert all(each.startswith("sha256:") for each in hashes)


@pytest.mark.parametrize("path", LOCKS.values(), ids=LOCKS)
def test_no_index_is_named(path):
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--\S*index\S*|--find-links)\b", text, re.MULTILINE)


@pytest.mark.parametrize("part", ["demo", "base"])
def test_a_part_has_the_versions_and_files_of_the_whole(part):
    whole = {requirement.split(" ; ")[0]: hashes for requirement, hashes in pins(LOCKS["dev"]).items()}
    found = {requirement.split(" ; ")[0]: hashes for requirement, hashes in pins(LOCKS[part]).items()}
    assert found.items() <= whole.items()


def test_the_base_installation_scores_and_does_not_train():
    names = {requirement.split("==")[0] for requirement in pins(LOCKS["base"])}
    assert {"numpy", "pillow", "pyarrow", "onnxruntime"} <= names
    assert not names & {"torch", "torchvision", "timm", "scikit-learn", "scipy", "pandas", "onnx"}


def test_the_demo_installs_nothing_large_that_it_does_not_use():
    names = {requirement.split("==")[0] for requirement in pins(LOCKS["demo"])}
    assert {"torch", "timm", "lightning", "onnxruntime", "elpv-dataset"} <= names
    assert not names & NOT_FOR_THE_DEMO
