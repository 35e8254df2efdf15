"""YAML as people mean it: ``1:23`` is a ratio, ``no`` is a word, ``1e-3`` is a number.

PyYAML follows YAML 1.1, in which ``1:23`` is the number 83 (base sixty), ``no`` and ``off`` are false,
``010`` is 8 and a day is a date object. Specs, recipes and ``-o key=value`` are read with the core
schema of YAML 1.2 (section 10.3.2) instead, and a key that is given twice is refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

# Tag → pattern and the characters it may begin with, YAML 1.2 section 10.3.2. Numbers with leading
# zeros are left as text: they are names such as 01 far more often than they are numbers.
_CORE_SCHEMA = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?((\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    ("tag:yaml.org,2002:merge", r"<<", ["<"]),
)


class _CoreLoader(yaml.SafeLoader):
    """A safe loader that guesses types by the core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is given twice, of which one would silently win."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(getattr(key_node, "value", ""))
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key}' is given twice", key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


for _tag, _pattern, _first in _CORE_SCHEMA:
    _CoreLoader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


def parse_yaml(text: str) -> Any:
    """Return the document that ``text`` holds.

    Raises:
        ValueError: not YAML, a key given twice, or nested deeper than anyone means; in one line.
    """
    try:
        return yaml.load(text, Loader=_CoreLoader)  # a safe loader by descent
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (ValueError, TypeError) as error:  # explicit tags that do not fit, unhashable keys
        raise ValueError(" ".join(str(error).split())) from error


class _CoreDumper(yaml.SafeDumper):
    """A safe dumper that quotes what :func:`parse_yaml` would not read as the text that it is."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        is_plain = parse_yaml(text) == text
    except ValueError:
        is_plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


_CoreDumper.add_representer(str, _represent_text)


def dump_yaml(document: dict[str, Any]) -> str:
    """Return text that :func:`parse_yaml` reads as ``document``, with the keys in their order."""
    text: str = yaml.dump(document, Dumper=_CoreDumper, sort_keys=False, allow_unicode=True, width=100)
    return text
