"""What a run chose by itself where a recipe says ``auto``, kept in the run folder.

``train-all`` chooses on training rows (:mod:`workflow.training.choosing`); every command about the run then
reads what was chosen, so that all of them mean the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contracts.files import read_json
from features.settings import BackboneSettings

AUTO = "auto"
FILE = "chosen.json"
"""In the run folder."""

DEFAULTS: dict[str, Any] = {"fit": "squeeze", "image_size": BackboneSettings().image_size}
"""What stands in for a setting until it is chosen, and what a choice has to beat."""


def left_to_choose(recipe: dict[str, Any]) -> tuple[str, ...]:
    """Names of the settings that a recipe leaves open."""
    backbone = recipe.get("backbone")
    size = backbone.get("image_size") if isinstance(backbone, dict) else None
    return tuple(name for name, value in (("fit", recipe.get("fit")), ("image_size", size)) if value == AUTO)


def offers_tiles(recipe: dict[str, Any]) -> bool:
    """Whether tiles may be chosen with the working size: the recipe leaves that open and states no tiles."""
    return "image_size" in left_to_choose(recipe) and "tiles" not in recipe["backbone"]


def settled(recipe: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """A copy of a recipe in which what it leaves open has these values, or else the defaults."""
    recipe = dict(recipe)
    tiles = {"tiles": values["tiles"]} if offers_tiles(recipe) and "tiles" in values else {}
    for name in left_to_choose(recipe):
        value = values.get(name, DEFAULTS[name])
        if name == "fit":
            recipe["fit"] = value
        else:
            recipe["backbone"] = {**recipe["backbone"], "image_size": value, **tiles}
    return recipe


def read_chosen(folder: Path) -> dict[str, Any]:
    """What training chose in a run folder; empty where nothing was, or the file is torn."""
    path = folder / FILE
    try:
        document = read_json(path)
        return document if isinstance(document.get("values"), dict) else {}
    except (OSError, ValueError, AttributeError):
        return {}
