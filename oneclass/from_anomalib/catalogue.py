"""Anomalib's image models and the arguments of their constructors, read from its source text.

Importing anomalib takes many seconds and imports torch, and recipes are checked without either. So classes
and signatures are taken from the syntax trees of the installed files.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from contracts.errors import ModelError, UsageError, nearest_match

PREFIX = "anomalib:"
"""Prefix of the member types that are anomalib's models."""

# Anomalib's components around the model, which ours replace, and the switch that ``weights`` sets.
_OURS = ("pre_processor", "post_processor", "evaluator", "visualizer", "pre_trained")


@dataclass(frozen=True)
class Argument:
    """An argument of a model's constructor.

    Attributes:
        name: as in the signature.
        annotation: its text, such as ``int | None``; empty where there is none.
        default: its value, or its text if it is not a literal; None where there is none.
    """

    name: str
    annotation: str
    default: Any


@dataclass(frozen=True)
class ImageModel:
    """An image model of anomalib.

    Attributes:
        name: of its package, such as ``reverse_distillation``; the name in member types.
        class_name: such as ``ReverseDistillation``.
        arguments: name → argument, of those that a recipe may set.
        has_pre_trained: whether the constructor has a switch ``pre_trained``.
    """

    name: str
    class_name: str
    arguments: Mapping[str, Argument]
    has_pre_trained: bool


@cache
def image_models() -> dict[str, ImageModel]:
    """Name → description of every image model of the installed anomalib.

    Raises:
        ModelError: anomalib is not installed, or its files are not laid out as expected.
    """
    folder = _source_folder() / "models" / "image"
    try:
        tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        classes = [
            (node.module, alias.name)
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
            for alias in node.names
        ]
        return {name: _read_model(folder / name / "lightning_model.py", name, cls) for name, cls in classes}
    except (OSError, SyntaxError, LookupError) as error:
        raise ModelError(
            f"anomalib: the list of models in {folder} could not be read ({error}). "
            "Install the version that pyproject.toml names."
        ) from error


def image_model_named(name: str) -> ImageModel:
    """Look up a model, ignoring case and underscores.

    Raises:
        UsageError: there is no such image model; the message suggests the nearest name.
    """
    models = image_models()
    by_plain = {_plain(spelling): model for model in models.values() for spelling in _spellings(model)}
    if _plain(name) not in by_plain:
        raise UsageError(
            f"member type '{PREFIX}{name}': anomalib has no such image model.{nearest_match(name, models)} "
            f"It has {', '.join(models)}."
        )
    return by_plain[_plain(name)]


def _spellings(model: ImageModel) -> tuple[str, str]:
    return model.name, model.class_name


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _source_folder() -> Path:
    spec = importlib.util.find_spec("anomalib")
    if spec is None or spec.origin is None:
        raise ModelError(
            f"member types {PREFIX}NAME: anomalib is not installed. Give: pip install -e '.[anomalib]'"
        )
    return Path(spec.origin).parent


def _read_model(path: Path, name: str, class_name: str) -> ImageModel:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    constructor = next(
        node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    given = constructor.args
    positional = given.args[1:]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    arguments = {
        argument.arg: Argument(
            argument.arg, ast.unparse(argument.annotation) if argument.annotation else "", _value(default)
        )
        for argument, default in pairs
    }
    return ImageModel(
        name,
        class_name,
        {key: argument for key, argument in arguments.items() if key not in _OURS},
        "pre_trained" in arguments,
    )


def _value(default: ast.expr | None) -> Any:
    if default is None:
        return None
    try:
        return ast.literal_eval(default)
    except ValueError:
        return ast.unparse(default)
