"""No file imports, directly or round others, a file that imports it."""

from __future__ import annotations

import subprocess
import sys

from tests.house.circles import circles, described, product_graph
from tests.house.source import ROOT


def test_no_import_circle_between_files():
    graph = product_graph()
    assert len(graph) > 100
    found = circles(graph)
    assert not found, "\n\n".join(described(graph, circle) for circle in found)


def test_imports_inside_functions_count():
    # A command imports its heavy part in its function only.
    assert "workflow.training.train" in product_graph()["workflow.commands.runs.train"]


def test_a_circle_is_found_once_and_named_in_order():
    graph = {"a": {"b": 1}, "b": {"c": 1}, "c": {"a": 1, "d": 2}, "d": {}}
    assert circles(graph) == [["a", "b", "c"]]


def test_two_circles_that_share_a_file():
    graph = {"a": {"b": 1, "c": 2}, "b": {"a": 1}, "c": {"a": 1}}
    assert sorted(sorted(circle) for circle in circles(graph)) == [["a", "b"], ["a", "c"]]


def test_it_runs_as_a_script():
    ran = subprocess.run(
        [sys.executable, "tests/house/circles.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "0 import circles" in ran.stdout
