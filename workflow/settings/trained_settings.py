"""Whether a run was trained with the settings that are asked for now."""

from __future__ import annotations

import copy
import json
from typing import Any

from imagedata.layouts.class_folders import ClassFolders
from imagedata.layouts.registry import layout_of_kind
from imagedata.settings import Settings
from imagedata.spec import DataSpec

# Keys that decide nothing about what is trained: words for people, and what comes after training.
NOT_OF_TRAINING = {
    "dataset": ("title", "source", "licence", "tree", "deployment_prior", "deployment_shares"),
    # Every fit's key covers the folds of its own repeat, so more repeats leave the earlier ones valid.
    "recipe": ("threshold", "bootstrap", "repeats", "select", "select_by"),
}


def difference_of_settings(saved: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first setting that training would heed and that differs, in words; None where all are alike.

    Args:
        saved: of the run's ``config.json``, perhaps of an older version or edited.
        wanted: what is asked for, as :meth:`workflow.settings.config.RunConfig.to_json` gives it.
    """
    saved, wanted = copy.deepcopy(saved), copy.deepcopy(wanted)
    saved["dataset"], wanted["dataset"] = map(_with_defaults, (saved.get("dataset"), wanted["dataset"]))
    for part, keys in NOT_OF_TRAINING.items():
        for key in keys:
            wanted[part].pop(key)
            saved.get(part, {}).pop(key, None)
    trained = saved.get("recipe", {}).get("members") or {}
    # A member that was trained may be left out of the ensemble.
    left_out = [name for name, given in wanted["recipe"]["members"].items() if given is False]
    wanted["recipe"]["members"] |= {name: trained.get(name, False) for name in left_out}
    for part in ("dataset", "recipe", "seed"):
        if saved.get(part) != wanted[part]:
            return _difference("", saved.get(part), wanted[part])
    return None


def _with_defaults(saved: object) -> dict[str, Any]:
    """A saved data set with the keys that it does not state, because they came later, at their defaults."""
    layout = saved.get("layout") if isinstance(saved, dict) else None
    if not isinstance(saved, dict) or not isinstance(layout, dict):
        return {}  # edited; it will differ from what is asked for
    model = layout_of_kind(layout.get("kind")) or ClassFolders
    return {**_defaults_of(DataSpec), **saved, "layout": {**_defaults_of(model), **layout}}


def _defaults_of(model: type[Settings]) -> dict[str, Any]:
    fields = model.model_fields.items()
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in fields
        if not field.is_required()
    }


def _difference(key: str, saved: object, wanted: object) -> str:
    """The first key in which two configurations differ, as it is written after ``-o``, in words."""
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for inner in sorted(set(saved) | set(wanted)):
            if saved.get(inner) != wanted.get(inner):
                return _difference(f"{key}.{inner}" if key else inner, saved.get(inner), wanted.get(inner))
    then, now = (_shown(value) for value in (saved, wanted))
    return f"{key or 'seed'}={then}, but now {key or 'seed'}={now} is asked for"


def _shown(value: object) -> str:
    return "its default" if value is None else json.dumps(value, ensure_ascii=False)
