"""A recipe: which members, with which settings, on how many folds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

import recipes
from contracts.errors import UsageError, nearest_match
from features.settings import BackboneSettings
from imagedata.decoding.shape import Fit
from imagedata.resolve import read_yaml_mapping
from imagedata.views import CHANGES, ViewChange, ViewsAtScoring
from workflow.settings.documents import validated
from workflow.settings.registry import BASELINE, entry_of, settings_class

# Rows of the results table that are no members.
_ROW_NAMES = ("calibrated_baseline", "best_single", "plain_mean", "greedy", "ensemble")

# Members that train on pixels, and anomalib's, take ten times as long and more.
_SECONDS_PER_ROW_OF_FEATURES = 0.02

RECIPES_DIR = Path(recipes.__file__).parent


class Recipe(BaseModel):
    """One experiment.

    Attributes:
        name: also the name of the run folder below the data set's.
        folds: cross-fitting folds.
        repeats: how often the cross-fitting is repeated, each time with new folds and seeds. None is 3 where
            figures are cross-validated, no test set being held out, and every member is fitted in seconds;
            else 1. See :func:`workflow.run.prepared.repeats_of`.
        select: which repeats the exported ensemble is made of: ``first``; ``best``, the one with the best
            out-of-fold figure; or ``vote``, the mean of each member's scores over all repeats.
        select_by: the figure that ``best`` is chosen by; see :mod:`ensemble.out_of_fold`.
        threshold: rule that sets the decision threshold out of fold (see :mod:`ensemble.threshold`).
        triage: error rates of PASS, FAIL, REVIEW and NOVEL, or the share that people can look at (see
            :mod:`ensemble.triage`).
        bootstrap: replicates behind every 95 % interval.
        contamination: share of unlabelled images that is taken not to be normal: so many, the most anomalous
            ones, are left out of what one-class members learn from. Without effect where labels say what is
            normal.
        kinds: whether the minority is left out kind by kind, to measure what the model is worth on kinds that
            it has never seen: ``auto``, where kinds are known and every member is fitted in seconds;
            ``named``, where kinds are known, whatever it takes; ``off``. See :mod:`workflow.run.kinds`.
        fit: how pictures that are no squares become one: ``squeeze`` stretches them, ``pad`` fills up with
            grey, ``crop`` takes the middle; see :mod:`imagedata.decoding.shape`. In a recipe's file also
            ``auto``, as ``backbone.image_size`` may be: then training chooses out of fold, see
            :mod:`workflow.training.choosing`.
        ms_per_image: milliseconds per image that the backbone may take on this machine, where the working
            size is ``auto``; None sets no limit.
        backbone: the frozen backbone.
        views: how a view of a training image differs from it, for the members that learn from views: ``auto``
            (noise), ``none``, or a list of changes; see :mod:`imagedata.views`.
        views_at_scoring: how every image is seen when it is scored, in training, in ``score`` and in the file
            alike: ``none`` (as it is) or ``mirror`` (as itself and as its mirror image; a member's score and
            its map are the mean of both).
        members: member name → its settings. ``type`` names the member type if it is not the name, and
            ``backbone`` gives the member a backbone of its own. False excludes a member of the recipe.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    folds: int = Field(default=5, ge=2, le=50)
    repeats: int | None = Field(default=None, ge=1, le=100)
    select: Literal["first", "best", "vote"] = "first"
    select_by: Literal["hter", "f1", "g_mean", "average_precision", "log_loss"] = "average_precision"
    threshold: str = "min_hter"
    triage: str = "auto"
    bootstrap: int = Field(default=2000, ge=100)
    contamination: float = Field(default=0.1, ge=0.0, le=0.5)
    kinds: Literal["auto", "named", "off"] = "auto"
    fit: Fit = "squeeze"
    ms_per_image: float | None = Field(default=None, gt=0.0)
    backbone: BackboneSettings = BackboneSettings()
    views: Literal["auto", "none"] | tuple[ViewChange, ...] = "auto"
    views_at_scoring: ViewsAtScoring = "none"
    members: dict[str, dict[str, Any] | Literal[False] | None] = Field(min_length=1)

    @property
    def view_changes(self) -> tuple[ViewChange, ...]:
        """``views`` with its words resolved, in the order in which changes are done; empty for none."""
        if self.views == "none":
            return ()
        wanted = _DEFAULT_CHANGES if self.views == "auto" else self.views
        return tuple(change for change in CHANGES if change in wanted)

    @property
    def said_of_views_at_scoring(self) -> dict[str, str]:
        """The key and its value for documents and keys; empty where images are seen as they are."""
        return {} if self.views_at_scoring == "none" else {"views_at_scoring": self.views_at_scoring}


# What members gain most from, safe for the labels of any data; see docs/results/views.md.
_DEFAULT_CHANGES: tuple[ViewChange, ...] = ("noise",)


class MemberPlan(BaseModel):
    """A member of a recipe with all defaults resolved.

    Attributes:
        name: within the recipe.
        type: key of the registry.
        settings: validated settings of the member type.
        backbone: the backbone it reads.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    settings: Any
    backbone: BackboneSettings

    @property
    def reads_cached_features(self) -> bool:
        """Whether a fit takes seconds: a head or a bank on cached features, no network of its own."""
        has_own_network = getattr(self.settings, "tune", "head") != "head"
        return not has_own_network and entry_of(self.type).seconds_per_row <= _SECONDS_PER_ROW_OF_FEATURES

    def identity(self) -> dict[str, Any]:
        """Everything besides rows and seed that decides what the fitted member is."""
        return {
            "type": self.type,
            "settings": self.settings.model_dump(mode="json"),
            "backbone": self.backbone.identity(),
        }


def recipe_names() -> list[str]:
    """Names of the recipes that come with the application, sorted."""
    return sorted(path.stem for path in RECIPES_DIR.glob("*.yaml"))


def load_recipe_document(recipe: str) -> tuple[dict[str, Any], str]:
    """Read a recipe by name or path, not validated yet.

    Returns:
        The document, and what to name in messages about it.

    Raises:
        UsageError: no such recipe or file.
    """
    if recipe in recipe_names():
        path = RECIPES_DIR / f"{recipe}.yaml"
    elif Path(recipe).suffix.lower() in {".yaml", ".yml"} and Path(recipe).is_file():
        path = Path(recipe)
    else:
        raise UsageError(
            f"recipe '{recipe}': neither one of {', '.join(recipe_names())} nor an existing YAML file."
            f"{nearest_match(recipe, recipe_names())}"
        )
    document = read_yaml_mapping(path)
    document.setdefault("name", path.stem)
    return document, f"recipe {document['name']}"


def plan_members(recipe: Recipe) -> list[MemberPlan]:
    """Resolve and check every member of a recipe.

    Raises:
        UsageError: unknown type or setting, or the baseline is missing.
    """
    if recipe.members.get(BASELINE, False) is False:
        raise UsageError(
            f"recipe {recipe.name}: it has no member '{BASELINE}', and without the calibrated baseline no "
            f"member can be judged. Add '{BASELINE}: {{}}' to its members."
        )
    plans = []
    for name, given in recipe.members.items():
        if given is False:
            continue
        _check_name(recipe, name)
        # A member without settings is written "name:" or "name: {}"; YAML reads the former as None.
        keys = dict(given or {})
        member_type = str(keys.pop("type", name))
        own_backbone = keys.pop("backbone", None)
        where = f"recipe {recipe.name}, member {name}"
        if isinstance(own_backbone, str):
            # The short form, backbone: resnet18.
            own_backbone = {"name": own_backbone}
        if own_backbone is not None and not isinstance(own_backbone, dict):
            raise UsageError(
                f"{where}: key 'backbone': got {own_backbone!r}; write a backbone's name or its keys."
            )
        backbone = recipe.backbone
        if own_backbone is not None:
            backbone = validated(
                BackboneSettings, {**recipe.backbone.model_dump(), **own_backbone}, f"{where}, backbone"
            )
            if backbone.working_size != recipe.backbone.working_size:
                raise UsageError(
                    f"{where}: its backbone wants {_size(backbone)} but the recipe works at "
                    f"{_size(recipe.backbone)}. Images are decoded once: give all one image_size, or tiles "
                    "that make up the same size."
                )
        settings = validated(settings_class(member_type), merged(entry_of(member_type).defaults, keys), where)
        if name == BASELINE and (member_type != BASELINE or not settings.is_plain):
            raise UsageError(
                f"{where}: the calibrated baseline is a '{BASELINE}' with plain cross-entropy; with anything "
                "else, no technique could be judged against it. Give other losses, samplers and types a "
                "member of their own."
            )
        plans.append(MemberPlan(name=name, type=member_type, settings=settings, backbone=backbone))
    return plans


def _size(backbone: BackboneSettings) -> str:
    tiles = f" ({backbone.tiles} tiles of {backbone.image_size} px per side)" if backbone.tiles > 1 else ""
    return f"{backbone.working_size} px{tiles}"


def merged(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """``given`` over ``defaults``; mappings within are merged too, so that one key of a sampler may be named.

    A mapping whose ``kind`` changes is another thing and takes nothing over.
    """
    result = {**defaults, **given}
    for key, old in defaults.items():
        new = given.get(key)
        if (
            isinstance(old, dict)
            and isinstance(new, dict)
            and new.get("kind", old.get("kind")) == old.get("kind")
        ):
            result[key] = merged(old, new)
    return result


def _check_name(recipe: Recipe, name: str) -> None:
    """A member's name becomes a folder, a column and a row of the table, so not any text will do."""
    if name in _ROW_NAMES or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UsageError(
            f"recipe {recipe.name}: '{name}' cannot name a member. Use letters, digits, _ and -, and none of "
            f"{', '.join(_ROW_NAMES)}, which are rows of the results table."
        )
