"""Documents that users write (YAML, ``-o key=value``) and the errors about them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from contracts.errors import UsageError, nearest_match

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], document: dict[str, Any], where: str) -> Model:
    """Check a document against a settings model.

    Args:
        model: the settings model.
        document: as written by the user.
        where: what to name in the message.

    Raises:
        UsageError: one sentence about the first problem; an unknown key names the nearest known one.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise UsageError(f"{where}: {_sentence(model, error)}") from None


def _sentence(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _keys_beside(model, location)
        return f"unknown key '{key}'.{nearest_match(location[-1], known)} Known keys: {', '.join(known)}."
    if first["type"] == "missing":
        return f"key '{key}' is missing."
    message = first["msg"].removeprefix("Value error, ")
    subject = f"key '{key}': got {first['input']!r}; " if key else ""
    return f"{subject}{message[:1].lower()}{message[1:]}."


def _keys_beside(model: type[BaseModel], location: list[str]) -> list[str]:
    """Field names that would have been accepted at a location; a union offers those of all its models."""
    models: list[type[BaseModel]] = [model]
    for part in location[:-1]:
        inner = [m for parent in models for m in _models_of_field(parent, part)]
        models = inner or models
    return sorted({name for candidate in models for name in candidate.model_fields})


def _models_of_field(model: type[BaseModel], field: str) -> list[type[BaseModel]]:
    if field not in model.model_fields:
        return []
    pending: list[Any] = [model.model_fields[field].annotation]
    found = []
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        pending.extend(getattr(annotation, "__args__", ()))
    return found


def parse_overrides(pairs: Iterable[str]) -> list[tuple[list[str], Any]]:
    """Split ``key.path=value`` texts; values are read as YAML (numbers, lists, null, text).

    Raises:
        UsageError: a pair without ``=`` or with an unreadable value.
    """
    parsed = []
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"-o '{pair}': write key=value, such as -o folds=3.")
        try:
            parsed.append((key.strip().split("."), yaml.safe_load(value)))
        except yaml.YAMLError as error:
            raise UsageError(
                f"-o '{pair}': the value is not readable: {' '.join(str(error).split())}."
            ) from error
    return parsed


def apply_override(document: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Return a copy of ``document`` with ``value`` at ``path``; missing levels are made."""
    head, *rest = path
    if not rest:
        return {**document, head: value}
    inner = document.get(head)
    return {**document, head: apply_override(inner if isinstance(inner, dict) else {}, rest, value)}
