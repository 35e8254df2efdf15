"""The bills of material that ``make sbom`` writes name what the locks install, with digests and licences."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import ROOT


def bill(output: Path, *arguments: object) -> dict:
    """A bill of material, checked against CycloneDX's schema while it is written."""
    options = ["--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--validate", "-o", output]
    ran = subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", *map(str, [*arguments, *options])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(output.read_text(encoding="utf-8"))


def test_scoring_is_the_lock_of_the_base_installation(tmp_path):
    lock = ROOT / "requirements" / "base.txt"
    found = bill(tmp_path / "scoring.cdx.json", "requirements", lock)
    assert found["bomFormat"] == "CycloneDX"
    assert found["metadata"]["component"]["name"] == "outnumbered"
    pinned = set(re.findall(r"^([\w.-]+)==([\w.]+)", lock.read_text(encoding="utf-8"), re.MULTILINE))
    assert {(each["name"], each["version"]) for each in found["components"]} == pinned
    for component in found["components"]:
        assert any(place.get("hashes") for place in component["externalReferences"]), component["name"]


@pytest.mark.slow
def test_the_environment_has_licences_and_who_needs_whom(tmp_path):
    found = bill(tmp_path / "environment.cdx.json", "environment", sys.executable)
    licensed = [each["name"] for each in found["components"] if each.get("licenses")]
    assert {"numpy", "torch", "onnxruntime"} <= set(licensed)
    assert len(licensed) > 0.9 * len(found["components"])
    assert any(each.get("dependsOn") for each in found["dependencies"])


def test_the_make_target_writes_all_three():
    ran = subprocess.run(
        ["make", "--dry-run", "--always-make", "sbom"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    for name in ("scoring", "training", "environment"):
        assert f"-o build/sbom/{name}.cdx.json" in ran.stdout
