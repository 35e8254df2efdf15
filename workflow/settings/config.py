"""From the command line to one resolved configuration, and how two of them differ."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from contracts.errors import UsageError, nearest_match
from ensemble.threshold_rule import check_rule, parse_rule
from ensemble.triage import parse_triage
from features.settings import BackboneSettings
from imagedata.decoding.decode import DecodeSettings
from imagedata.decoding.masks import read_region
from imagedata.decoding.region import Region
from imagedata.layouts.class_folders import ClassFolders
from imagedata.layouts.registry import layout_of_kind
from imagedata.layouts.said import Said
from imagedata.resolve import resolve_dataset
from imagedata.settings import Settings
from imagedata.spec import DataSpec
from workflow.settings.chosen import left_to_choose, offers_tiles, read_chosen, settled
from workflow.settings.documents import apply_override, parse_overrides, validated
from workflow.settings.quantised import read_quantised, with_int8_graph
from workflow.settings.recipe import MemberPlan, Recipe, load_recipe_document, plan_members

Device = Literal["auto", "cpu", "cuda"]

# The default recipe of each command; of all others it is quick.
_DEFAULT_RECIPES = {"compare": "losses", "report": "losses"}

# They name the run folder, so they cannot be overridden.
_NOT_OVERRIDABLE = {"name"}
# Commands that have --no-tracking.
_TRACKED = {"train-all", "train", "ensemble", "compare", "update"}


@dataclass(frozen=True)
class RunOptions:
    """What the commands that work on a data set share, as the user gave it.

    ``minority``, ``normal`` and ``unlabelled`` are what :class:`imagedata.layouts.said.Said` holds. ``jobs``
    is how many processes train at a time (None: as many as pay off), and ``ray`` the address of a cluster to
    train on; they change no result beyond rounding.
    """

    dataset: str
    data: Path | None = None
    recipe: str = "quick"
    overrides: Sequence[str] = ()
    runs: Path = Path("runs")
    seed: int = 0
    device: Device = "auto"
    minority: str | None = None
    normal: str | None = None
    unlabelled: bool = False
    tracking: bool = True
    jobs: int | None = None
    ray: str | None = None

    def command(self, name: str, *arguments: str) -> str:
        """The command line that does ``name`` with these options, quoted for a shell, for messages."""
        words = ["python", "cli.py", name, self.dataset, *arguments]
        if self.data is not None:
            words += ["--data", str(self.data)]
        if self.recipe != _DEFAULT_RECIPES.get(name, "quick"):
            words += ["--recipe", self.recipe]
        if self.minority is not None:
            words += ["--minority", self.minority]
        if self.normal is not None:
            # Of update, --normal is the folder of false alarms.
            words += ["--normal-class" if name == "update" else "--normal", self.normal]
        if self.unlabelled:
            words.append("--unlabelled")
        if self.seed != 0:
            words += ["--seed", str(self.seed)]
        if self.runs != Path("runs"):
            words += ["--runs", str(self.runs)]
        for pair in self.overrides:
            words += ["-o", pair]
        if not self.tracking and name in _TRACKED:
            words += ["--no-tracking"]
        return shlex.join(words)


@dataclass(frozen=True)
class RunConfig:
    """Everything resolved and checked.

    Attributes:
        options: as given.
        spec: the data set.
        recipe: the experiment.
        members: its members, resolved.
        data_dir: where the data sets lie, or None for those that come with a package.
        folder: the run folder.
        owns_tree: the folder of the data set holds this data set and nothing else, so that an image in it
            that is not used is worth a sentence.
        region: of interest, as the spec names it.
        left_to_choose: settings that the recipe leaves to training, by their names in
            :data:`workflow.settings.chosen.DEFAULTS`; the recipe here has what was chosen, or the defaults.
        offers_tiles: whether tiles may be chosen with the working size.
    """

    options: RunOptions
    spec: DataSpec
    recipe: Recipe
    members: tuple[MemberPlan, ...]
    data_dir: Path | None
    folder: Path
    owns_tree: bool = False
    region: Region | None = None
    left_to_choose: tuple[str, ...] = ()
    offers_tiles: bool = False

    @property
    def seed(self) -> int:
        """Seed of everything random in the run."""
        return self.options.seed

    @property
    def decode(self) -> DecodeSettings:
        """How images become pixels in this run."""
        size, spec = self.recipe.backbone.working_size, self.spec
        return DecodeSettings(size, spec.window, spec.scaled_jpeg, self.recipe.fit, self.region)

    @property
    def shape_key(self) -> dict[str, str]:
        """Of fit and region, for the keys of all that is made of pixels; empty where both are the default."""
        fit, region = self.recipe.fit, self.region
        return {**({"fit": fit} if fit != "squeeze" else {}), **({"roi": region.digest} if region else {})}

    @property
    def of_pixels(self) -> list[Any]:
        """All besides its size that decides which pixels a backbone is given."""
        return [self.shape_key, self.spec.window, self.spec.scaled_jpeg]

    def with_backbones(self, changed: Callable[[BackboneSettings], BackboneSettings]) -> RunConfig:
        """The same with other settings of the recipe's backbone and of the members'."""
        backbone = changed(self.recipe.backbone)
        return replace(
            self,
            recipe=self.recipe.model_copy(update={"backbone": backbone}),
            members=tuple(
                plan.model_copy(update={"backbone": changed(plan.backbone)}) for plan in self.members
            ),
        )

    def member(self, name: str) -> MemberPlan:
        """One member by name.

        Raises:
            UsageError: the recipe has no such member.
        """
        for plan in self.members:
            if plan.name == name:
                return plan
        names = [plan.name for plan in self.members]
        raise UsageError(
            f"member '{name}': recipe {self.recipe.name} has {', '.join(names)}.{nearest_match(name, names)}"
        )

    def to_json(self) -> dict[str, Any]:
        """The resolved configuration, as kept in the run folder."""
        dataset, recipe = self.spec.model_dump(mode="json"), self.recipe.model_dump(mode="json")
        # Left out where they change nothing, so that digests are those of before there were such keys.
        if not self.spec.scaled_jpeg:
            del dataset["scaled_jpeg"]
        if self.spec.corrections is None:
            del dataset["corrections"]
        if self.region is None:
            del dataset["roi"]
        elif self.region.mask:
            dataset["roi"] = {"mask": self.spec.roi, "digest": self.region.digest}
        if self.recipe.fit == "squeeze":
            del recipe["fit"]
        if self.recipe.views_at_scoring == "none":
            del recipe["views_at_scoring"]
        if self.recipe.triage == "auto":
            del recipe["triage"]
        return {
            "dataset": dataset,
            "recipe": recipe,
            "members": {plan.name: plan.identity() for plan in self.members},
            "seed": self.seed,
        }


def resolve_config(options: RunOptions) -> RunConfig:
    """Resolve data set, recipe and overrides.

    Raises:
        UsageError: anything the user named does not exist or cannot be.
        DataError: a folder that holds no classes.
    """
    overrides = parse_overrides(options.overrides)
    # Overrides of the layout decide what a folder is taken for, so they are needed before it is looked at.
    stated = {path[1]: value for path, value in overrides if path[0] == "layout" and len(path) == 2}
    said = Said(options.minority, options.normal, options.unlabelled)
    found = resolve_dataset(options.dataset, said, stated)
    spec_document = found.document
    recipe_document, recipe_where = load_recipe_document(options.recipe)
    spec_keys = set(DataSpec.model_fields) - _NOT_OVERRIDABLE
    recipe_keys = set(Recipe.model_fields) - _NOT_OVERRIDABLE
    for path, value in overrides:
        if path[0] in spec_keys:
            spec_document = apply_override(spec_document, path, value)
        elif path[0] in recipe_keys:
            _require_member(recipe_document, path)
            recipe_document = apply_override(recipe_document, path, value)
        else:
            known = sorted(spec_keys | recipe_keys)
            raise UsageError(
                f"-o {'.'.join(path)}: unknown key.{nearest_match(path[0], known)} "
                f"Known keys: {', '.join(known)}."
            )
    spec = validated(DataSpec, spec_document, found.where)
    open_settings, may_have_tiles = left_to_choose(recipe_document), offers_tiles(recipe_document)
    if open_settings:
        # A name that cannot be one is refused right below; nothing lies in such a folder.
        chosen = read_chosen(options.runs / spec.name / str(recipe_document.get("name")))
        recipe_document = settled(recipe_document, chosen.get("values", {}))
    recipe = validated(Recipe, recipe_document, recipe_where)
    # Refuse a misspelt rule, or one for another number of classes, before training and not after it.
    check_rule(parse_rule(recipe.threshold), len(spec.classes))
    parse_triage(recipe.triage)
    region = read_region(spec.roi, found.data_dir)
    if recipe.views_at_scoring == "mirror" and region is not None and not region.is_symmetric:
        raise UsageError(
            f"views_at_scoring=mirror: the mask roi={spec.roi} is not its own mirror image, so that mirror "
            "images would be grey where images show something. Use a rectangle or a symmetric mask, or "
            "views_at_scoring=none."
        )
    data_dir = found.data_dir if options.data is None or found.is_folder else options.data
    config = RunConfig(
        options=options,
        spec=spec,
        recipe=recipe,
        members=tuple(plan_members(recipe)),
        data_dir=data_dir,
        folder=options.runs / spec.name / recipe.name,
        # A spec of the catalogue is found below a folder with other data sets; one that `datasets add` wrote
        # names its own folder.
        owns_tree=found.is_folder or any(Path(root).is_absolute() for root in spec.layout.roots),
        region=region,
        left_to_choose=open_settings,
        offers_tiles=may_have_tiles,
    )
    made = read_quantised(config.folder)
    return config.with_backbones(lambda backbone: with_int8_graph(backbone, config.of_pixels, made))


def _require_member(recipe_document: dict[str, Any], path: list[str]) -> None:
    """A setting of a member that the recipe does not have is a misspelling, not a new member."""
    members = recipe_document.get("members")
    if path[0] == "members" and len(path) > 2 and isinstance(members, dict) and path[1] not in members:
        raise UsageError(
            f"-o {'.'.join(path)}: recipe has no member '{path[1]}', only {', '.join(members)}."
            f"{nearest_match(path[1], members)} Add one with -o members.{path[1]}={{type: ...}}."
        )


# Keys that training does not depend on: words for people, and what comes after training.
NOT_OF_TRAINING = {
    # Which labels are corrected is a matter of the rows, wherever the corrections are kept.
    "dataset": (
        "title",
        "source",
        "licence",
        "tree",
        "deployment_prior",
        "deployment_shares",
        "corrections",
    ),
    # Every fit's key covers the folds of its own repeat, so more repeats leave the earlier ones valid.
    "recipe": ("threshold", "triage", "bootstrap", "repeats", "select", "select_by", "kinds", "ms_per_image"),
}


# Keys of a layout that say where a data set lies.
PLACE_KEYS = ("roots", "table")


def difference_of_settings(saved: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first setting that training depends on and that differs, in words; None if all agree.

    Where the data set lies is no such setting.

    Args:
        saved: of the run's ``config.json``, perhaps edited.
        wanted: what is asked for, as :meth:`RunConfig.to_json` gives it.
    """
    # Both are changed below, and the caller's must not be.
    saved, wanted = copy.deepcopy(saved), copy.deepcopy(wanted)
    saved["dataset"], wanted["dataset"] = (
        _without_place(_with_defaults(dataset)) for dataset in (saved.get("dataset"), wanted["dataset"])
    )
    for part, keys in NOT_OF_TRAINING.items():
        for key in keys:
            wanted[part].pop(key, None)
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
    """A saved data set; keys that it does not state, because they came later, have their defaults."""
    layout = saved.get("layout") if isinstance(saved, dict) else None
    if not isinstance(saved, dict) or not isinstance(layout, dict):
        return {}  # edited; it will differ from what is asked for
    model = layout_of_kind(layout.get("kind")) or ClassFolders
    return {**_defaults_of(DataSpec), **saved, "layout": {**_defaults_of(model), **layout}}


def _without_place(dataset: dict[str, Any]) -> dict[str, Any]:
    """The data set without the keys that say where it lies: whether it only moved, its files decide."""
    if isinstance(dataset.get("roi"), dict):  # a mask, of which the content counts
        dataset = {**dataset, "roi": dataset["roi"].get("digest")}
    layout = dataset.get("layout")
    if not isinstance(layout, dict):
        return dataset
    elsewhere = {key: value for key, value in layout.items() if key not in PLACE_KEYS}
    if isinstance(table := layout.get("table"), str):
        elsewhere["table"] = Path(table).name if Path(table).is_absolute() else table
    return {**dataset, "layout": elsewhere}


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
