"""Documents that users write (YAML, ``-o key=value``) and the errors about them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from contracts.errors import UsageError, nearest_match
from imagedata.plain_yaml import parse_yaml

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
    # A misspelt key says more than the key that is missing because of it.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    written, known = _as_written(model, [str(part) for part in first["loc"]])
    key = ".".join(written)
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'.{nearest_match(written[-1], known)} Known keys: {', '.join(known)}."
    if first["type"] == "missing":
        return f"key '{key}' is missing."
    if first["type"] in {"union_tag_not_found", "union_tag_invalid"}:
        context = first["ctx"]
        tags = context.get("expected_tags") or ", ".join(_tags_of(model, written))
        got = f"got '{context['tag']}'" if "tag" in context else "missing"
        tag_key = str(context["discriminator"]).strip("'")
        return f"key '{key}.{tag_key}': {got}; it is one of {tags}."
    message = first["msg"].removeprefix("Value error, ")
    got = "" if isinstance(first["input"], dict) else f"got {first['input']!r}; "
    subject = f"key '{key}': {got}" if key else ""
    text = message if subject and not got else message[:1].lower() + message[1:]
    return f"{subject}{text}" if text.endswith((".", "?")) else f"{subject}{text}."


def _as_written(model: type[BaseModel], location: list[str]) -> tuple[list[str], list[str]]:
    """Bring pydantic's location of an error to the key as users write it.

    Pydantic puts the tag of a union's chosen model between two keys, and the name of a union's type behind
    one; users never write either.

    Returns:
        The parts of the key, and the field names that would have been accepted beside its last part.
    """
    models: list[type[BaseModel]] = [model]
    written: list[str] = []
    for position, part in enumerate(location):
        if "[" in part:
            # A type among several that a value may have, such as dict[str,any].
            continue
        tagged = [m for m in models if _tag_of(m) == part]
        if tagged and position > 0:
            models = tagged
            continue
        written.append(part)
        if position < len(location) - 1:
            inner = [m for parent in models for m in _models_of_field(parent, part)]
            models = inner or models
    return written, sorted({name for candidate in models for name in candidate.model_fields})


def _tag_of(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return str(field.default) if field is not None else None


def _tags_of(model: type[BaseModel], written: list[str]) -> list[str]:
    inner = _models_of_field(model, written[-1]) if written else []
    return [f"'{tag}'" for tag in sorted(filter(None, (_tag_of(m) for m in inner)))]


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
            parsed.append((key.strip().split("."), parse_yaml(value)))
        except ValueError as error:
            raise UsageError(f"-o '{pair}': the value is not readable: {error}.") from error
    return parsed


def apply_override(document: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Return a copy of ``document`` with ``value`` at ``path``; missing levels are made."""
    head, *rest = path
    if not rest:
        return {**document, head: value}
    inner = document.get(head)
    # A value that is no mapping is replaced by one; validation then says what is wrong with it.
    return {**document, head: apply_override(inner if isinstance(inner, dict) else {}, rest, value)}
