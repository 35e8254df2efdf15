"""Which graph in int8 training made of a backbone, kept in the run folder.

``train-all`` quantises (:mod:`workflow.training.quantising`); every command about the run then reads which
graph it was, so that all of them mean the same features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contracts.files import digest_of, read_json
from features.settings import BackboneSettings

FILE = "int8.json"
"""In the run folder."""


def key_of(backbone: BackboneSettings, of_pixels: Sequence[Any]) -> str:
    """What a quantised graph is found by.

    Args:
        backbone: as the recipe asks for it.
        of_pixels: all besides its size that decides which pixels it is given.
    """
    # Named where it is stated only, so that what was made before there was such a setting is found.
    stated = [] if backbone.deployment == "here" else [backbone.deployment]
    return digest_of([backbone.in_float32.identity(), *of_pixels, backbone.precision, *stated])


def read_quantised(folder: Path) -> dict[str, dict[str, Any]]:
    """What training made in a run folder, by :func:`key_of`; empty where there is nothing, or a torn file.

    Each entry has ``taken`` (``int8`` or ``fp32``), ``graph`` (its digest, or None), ``images`` (SHA-256 of
    the calibration images), ``convolutions``, ``ms`` and a ``sentence``.
    """
    try:
        document = read_json(folder / FILE)
        return {key: dict(entry) for key, entry in document["backbones"].items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


def with_int8_graph(
    backbone: BackboneSettings, of_pixels: Sequence[Any], made: Mapping[str, dict[str, Any]]
) -> BackboneSettings:
    """A backbone that says which graph training has quantised of it; itself where there is none."""
    if backbone.precision == "fp32":
        return backbone
    entry = made.get(key_of(backbone, of_pixels), {"graph": None})
    return backbone.model_copy(update={"int8_graph": entry["graph"]})
