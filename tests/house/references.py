"""Cross references in docstrings and pages, and whether what they point to exists; nothing is imported."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache

from tests.house.source import imports_of, modules, rooms, tree

ROLE = re.compile(r":(?:mod|class|func|data|meth|attr|exc|obj):`~?([^`<>]+)`")
#: Names of files, which look like dotted names of ours: ``export.json`` is written by an export.
FILE_SUFFIXES = {
    "csv", "html", "json", "jsonl", "lock", "md", "npy", "npz", "onnx", "parquet", "png", "safetensors",
    "svg", "toml", "txt", "yaml",
}  # fmt: skip


@cache
def _assigned(node: ast.Module | ast.ClassDef) -> dict[str, ast.AST]:
    """Name → statement that defines it, directly in a module or class, also below ``if`` and ``try``."""
    found: dict[str, ast.AST] = {}
    pending: list[ast.AST] = list(node.body)
    while pending:
        statement = pending.pop(0)
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                found.update({name.id: statement for name in names if isinstance(name, ast.Name)})
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = statement
        elif isinstance(statement, ast.TypeAlias) if hasattr(ast, "TypeAlias") else False:
            found[statement.name.id] = statement
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            pending.extend(ast.iter_child_nodes(statement))
    return found


@cache
def _imported(module: str) -> dict[str, tuple[str, str]]:
    """Name in ``module`` → the module of ours that it comes from, and its name there."""
    return {item.alias: (item.module, item.name) for item in imports_of(module, type_checking=True)}


@cache
def _imported_elsewhere(module: str) -> frozenset[str]:
    """Names that ``module`` imports from anywhere."""
    return frozenset(
        (name.asname or name.name).split(".")[0]
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    )


def _attributes(node: ast.ClassDef) -> set[str]:
    """Attributes that methods give to ``self``."""
    return {
        target.attr
        for target in ast.walk(node)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    }


def _in_class(module: str, node: ast.ClassDef, name: str) -> bool:
    """Whether a class or a class of ours above it has a member; true where a foreign class is above it."""
    if name in _assigned(node) or name in _attributes(node):
        return True
    for base in node.bases:
        named = base.value if isinstance(base, ast.Subscript) else base
        above = _definition(module, ast.unparse(named))
        if above is None:
            # A class of the standard library or of a package: not ours to look into.
            if ast.unparse(named) not in {"Protocol", "ABC", "Generic", "NamedTuple", "Exception", "object"}:
                return True
        elif _in_class(above[0], above[1], name):
            return True
    return False


def _definition(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """Where a class that ``module`` calls ``name`` is defined, if it is ours."""
    node = _assigned(tree(module)).get(name)
    if isinstance(node, ast.ClassDef):
        return module, node
    if name in _imported(module):
        there, original = _imported(module)[name]
        return _definition(there, original) if original else None
    return None


def exists_in(module: str, parts: list[str]) -> bool:
    """Whether ``module`` has ``parts[0]``, that has ``parts[1]``, and so on.

    Args:
        module: dotted name of a module of the product.
        parts: what follows the module's name in a reference.
    """
    if not parts:
        return True
    first, rest = parts[0], parts[1:]
    if first in _assigned(tree(module)):
        if not rest:
            return True
        found = _definition(module, first)
        return found is not None and len(rest) == 1 and _in_class(*found, rest[0])
    if first in _imported(module):
        there, original = _imported(module)[first]
        return exists_in(there, [original, *rest] if original else rest)
    return False


def exists(dotted: str) -> bool:
    """Whether a dotted name that begins with a room points to something."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in modules():
            return exists_in(module, parts[length:])
    return False


def is_ours(dotted: str) -> bool:
    """Whether a dotted name begins with a room, or with the program's own file."""
    return dotted.split(".", maxsplit=1)[0] in {*rooms(), "cli"}


def _in_sight(module: str, name: str) -> bool:
    """Whether a name without a room is known where it stands: in the module or in one of its classes."""
    parts = name.split(".")
    if exists_in(module, parts) or parts[0] in _imported_elsewhere(module):
        return True
    classes = [node for node in ast.walk(tree(module)) if isinstance(node, ast.ClassDef)]
    return len(parts) == 1 and any(_in_class(module, node, name) for node in classes)


def docstrings(module: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string that stands alone: docstrings and strings below attributes."""
    for node in ast.walk(tree(module)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value


def stale_references(module: str) -> list[tuple[int, str]]:
    """Line and target of each reference in a module's docstrings that points to nothing."""
    found = []
    for line, text in docstrings(module):
        for match in ROLE.finditer(text):
            target = " ".join(match[1].split()).removesuffix("()")
            if target.startswith("."):
                target = f"{module.rpartition('.')[0]}{target}"
            if target.split(".")[0] in sys.stdlib_module_names:
                continue
            known = exists(target) if is_ours(target) else _in_sight(module, target)
            if not known:
                found.append((line + text[: match.start()].count("\n"), target))
    return found
