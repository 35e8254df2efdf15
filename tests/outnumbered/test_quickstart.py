"""The notebook runs from its first cell to its last, and what it shows was really made by it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import TINY_RECIPE
from tests.house.source import ROOT

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
SIZES = 'N_GOOD, N_DEFECTIVE, RECIPE = 100, 20, "quick"'
SMALL = 'N_GOOD, N_DEFECTIVE, RECIPE = 24, 10, "tiny.yaml"'


def run(notebook: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run every cell in ``folder``; returns the texts and types of what the cells show."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=where).execute()
    return shown(notebook)


def shown(notebook: Any) -> list[str]:
    """Text of every output, and ``image/png`` for a picture."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return [*texts, *(kind for output in outputs for kind in output.get("data", {}) if kind == "image/png")]


def check(outputs: list[str], n_good: int) -> None:
    text = "\n".join(outputs)
    assert f"good                 │ {n_good:>8}" in text
    assert "Exported cells.onnx" in text
    assert "average_precision" in text
    assert outputs.count("image/png") == 1
    # No sentence of ours stands on stderr, and no bar leaves its states behind.
    assert "Traceback" not in text
    assert "━ " not in text


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_what_is_stored_is_a_run_of_all_its_cells(notebook):
    nbformat.validate(notebook)
    check(shown(notebook), 100)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    # It tells nothing of the machine that made it: no path from the root, in a string or behind a blank.
    text = "\n".join([*(cell.source for cell in notebook.cells), *shown(notebook)])
    assert "cells" in text
    assert not re.findall(r"""(?:^|["'\s(])(/(?:[\w.-]+/)+[\w.-]+)""", text)


def test_its_cells_run_on_fewer_images(notebook, tmp_path, monkeypatch):
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert SIZES in first.source
    first.source = first.source.replace(SIZES, SMALL)
    (tmp_path / "tiny.yaml").write_text(TINY_RECIPE)
    check(run(notebook, tmp_path, monkeypatch), 24)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_its_cells_run(notebook, tmp_path, monkeypatch):
    check(run(notebook, tmp_path, monkeypatch), 100)
