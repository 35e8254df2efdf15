"""The examples in the docstrings of the public package run in their order, on a folder as they describe."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import outnumbered.ensemble
import outnumbered.sources
from tests.conftest import TINY_RECIPE
from tests.pictures import write_two_classes


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    write_two_classes(tmp_path / "parts", 45, 12, test=10, names=("fine", "scratched"))
    (tmp_path / "tiny.yaml").write_text(TINY_RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "module", [outnumbered.sources, outnumbered.ensemble], ids=lambda each: each.__name__
)
def test_examples(module, folder):
    # A class before its methods, which use what its example made.
    found = sorted(doctest.DocTestFinder().find(module), key=lambda each: (each.name.count("."), each.name))
    examples = [test for test in found if test.examples]
    assert examples
    runner, names, said = doctest.DocTestRunner(), dict(vars(module)), []
    for test in examples:
        # What an earlier example made is there for the later ones, as on the page.
        test.globs = names
        runner.run(test, out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)
    if module is outnumbered.ensemble:
        assert (folder / "why.png").stat().st_size > 10_000
