"""The product as text: its modules, their syntax trees and who imports whom, without importing any of it."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Folders with Python files that are no part of the product.
NOT_PRODUCT = {"tests"}


@dataclass(frozen=True)
class Import:
    """One name that a module imports.

    Attributes:
        module: dotted name of the module that is loaded.
        name: what is taken from it; empty for the module itself.
        alias: name that it has in the importing module.
        line: line of the statement.
    """

    module: str
    name: str
    alias: str
    line: int


@cache
def rooms() -> tuple[str, ...]:
    """Top-level packages of the product."""
    found = (path.parent.name for path in ROOT.glob("*/__init__.py"))
    return tuple(sorted(name for name in found if name not in NOT_PRODUCT))


@cache
def modules() -> dict[str, Path]:
    """Dotted name of every module of the product → its file."""
    found = {"cli": ROOT / "cli.py"}
    for room in rooms():
        for path in sorted((ROOT / room).rglob("*.py")):
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[dotted.removesuffix(".__init__")] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    """Syntax tree of a module of the product."""
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def place(module: str, line: int) -> str:
    """``file:line`` as terminals and editors open it."""
    return f"{modules()[module].relative_to(ROOT)}:{line}"


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below ``node`` but what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield other
                yield from _running(other)
            continue
        yield child
        yield from _running(child)


def imports_of(module: str, type_checking: bool = False) -> list[Import]:
    """Imports of our own modules, wherever in the file they stand, also those of functions.

    Args:
        module: dotted name of the importing module.
        type_checking: also those below ``if TYPE_CHECKING``.
    """
    known = modules()
    nodes = ast.walk(tree(module)) if type_checking else _running(tree(module))
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name in known:
                    found.append(Import(name.name, "", name.asname or name.name, node.lineno))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")
                # In a package's own file the first dot is the package, elsewhere the folder of the module.
                cut = node.level - (modules()[module].name == "__init__.py")
                base = ".".join([*package[: len(package) - cut], *filter(None, [node.module])])
            for name in node.names:
                alias = name.asname or name.name
                if f"{base}.{name.name}" in known:
                    found.append(Import(f"{base}.{name.name}", "", alias, node.lineno))
                elif base in known:
                    found.append(Import(base, name.name, alias, node.lineno))
    return found


@cache
def tracked() -> tuple[Path, ...]:
    """Files that git knows; empty where there is no checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split("\0")  # fmt: skip
    return tuple(ROOT / name for name in listed if name and (ROOT / name).is_file())
