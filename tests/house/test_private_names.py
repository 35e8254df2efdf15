"""A name with a leading underscore belongs to its file: no other file of the product uses it."""

from __future__ import annotations

import ast

from tests.house.source import imports_of, modules, place, tree


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_private_name_is_imported():
    found = [
        f"{place(module, item.line)}: {item.name or item.module} "
        for module in modules()
        for item in imports_of(module, type_checking=True)
        if is_private(item.name) or any(map(is_private, item.module.split(".")))
    ]
    assert not found, "\n".join(found)


def test_no_private_name_is_reached_through_its_module():
    found = []
    for module in modules():
        ours = {item.alias for item in imports_of(module, type_checking=True) if not item.name}
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node.value) in ours:
                found.append(f"{place(module, node.lineno)}: {ast.unparse(node)}")
    assert not found, "\n".join(found)
