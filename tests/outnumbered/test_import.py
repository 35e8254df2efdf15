"""What an import of the public package costs and gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

import outnumbered
from tests.house.source import ROOT

TRAINING = ("torch", "torchvision", "timm", "lightning", "sklearn", "scipy", "pandas", "matplotlib", "onnx")


def loaded_by(code: str) -> set[str]:
    """Top-level modules that an interpreter of its own has loaded after ``code``."""
    shown = f"import sys; {code}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_alone_loads_nothing_but_the_standard_library():
    ours = {"outnumbered"}
    foreign = loaded_by("import outnumbered") - set(sys.stdlib_module_names) - loaded_by("pass")
    assert foreign == ours


@pytest.mark.parametrize("name", outnumbered.__all__)
def test_no_promised_name_loads_what_trains(name):
    loaded = loaded_by(f"from outnumbered import {name}")
    assert not loaded & set(TRAINING)
    if name in {"Scorer", "ImageScore"}:
        assert "pydantic" not in loaded


def test_every_promised_name_is_there_and_listed():
    for name in outnumbered.__all__:
        assert name in dir(outnumbered)
        assert getattr(outnumbered, name).__doc__


def test_another_name_is_an_attribute_error_that_lists_the_promised_ones():
    with pytest.raises(AttributeError, match="no attribute 'fit'; it has DataError, Ensemble"):
        outnumbered.fit  # noqa: B018


def test_every_error_has_the_one_base():
    errors = [outnumbered.UsageError, outnumbered.DataError, outnumbered.ImageError, outnumbered.ModelError]
    assert all(issubclass(error, outnumbered.OutnumberedError) for error in errors)


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "outnumbered" / "py.typed").is_file()
