"""Files, functions and folders stay small enough to be read at one sitting."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter

from tests.house.source import ROOT, modules, place, tree

MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 80
MOST_FILES_IN_A_FOLDER = 20
MOST_FILES_AT_THE_TOP_OF_WORKFLOW = 6


def test_files():
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    long = {name: count for name, count in lines.items() if count > MOST_FILE_LINES}
    assert not long


def test_functions():
    long = [
        f"{place(module, node.lineno)}: {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines"
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_folders():
    files = Counter(path.parent.relative_to(ROOT).as_posix() for path in modules().values())
    crowded = {folder: count for folder, count in files.items() if count > MOST_FILES_IN_A_FOLDER}
    assert not crowded


def test_top_of_workflow():
    top = sorted(path.name for path in (ROOT / "workflow").glob("*.py"))
    assert len(top) <= MOST_FILES_AT_THE_TOP_OF_WORKFLOW, top


def test_git_ignores_no_file_of_the_product():
    ran = subprocess.run(
        ["git", "check-ignore", *map(str, modules().values())],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # 0: some are ignored; 1: none; 128: no checkout.
    assert ran.returncode != 0, ran.stdout
