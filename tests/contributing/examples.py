"""The examples of CONTRIBUTING.md, and a copy of the repository to add them to."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks_of(heading: str) -> list[str]:
    """The code blocks of a section of CONTRIBUTING.md, in order.

    Args:
        heading: of the section, without the number signs.
    """
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section, f"CONTRIBUTING.md has no section '{heading}'"
    return [block for _, block in _BLOCK.findall(section[1])]


def copy_of_repository(folder: Path) -> Path:
    """Copy our packages and ``cli.py``; what a test changes there does not reach the repository."""
    copy = folder / "repository"
    copy.mkdir()
    for entry in ROOT.iterdir():
        if entry.is_dir() and (entry / "__init__.py").exists():
            shutil.copytree(entry, copy / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("cli.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def python(repository: Path, *arguments: object) -> str:
    """Run Python in a copy of the repository; return its standard output, or fail with what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
