"""Working size and fit where a recipe says ``auto``: measured out of fold on training images.

Each candidate's features are computed for at most 450 training images, and a few quick members are
cross-fitted on them by the run's own folds; the figure is the AUROC of the mean of their standardised
out-of-fold scores. By the rule of one standard error (Breiman, Friedman, Olshen and Stone 1984, 3.4.3)
the cheapest candidate is taken that is not worse than the best by more than one standard error of the paired
difference, so that noise alone does not make a model slower. No test image takes part. Where figures are
cross-validated, the choice has seen the judged images; it is one of eight at most, and its sentence says so.

Pictures above 1,000 px are tried in tiles as well (:mod:`features.tensors`), as far as ``ms_per_image``
allows: what is small in them is lost at 448 px.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from contracts.errors import UsageError
from contracts.files import digest_of, write_json
from evaluation.bootstrap import central_interval, replicate_weights
from evaluation.ranking import Ranking
from features.cache import FeatureStore
from features.devices import pick_device
from features.settings import BackboneSettings
from imagedata.decoding.shape import FITS
from reporting.terminal import console, note
from workflow.run.copies.views import views_to_score
from workflow.run.fits import FINAL, Fit, FitResult, can_learn, fits_of
from workflow.run.prepared import PreparedData, group_numbers
from workflow.run.put_aside import PutAside
from workflow.settings.chosen import DEFAULTS, FILE, read_chosen
from workflow.settings.config import RunConfig, resolve_config
from workflow.settings.recipe import MemberPlan, Recipe
from workflow.settings.registry import BASELINE, entry_of, settings_class
from workflow.training.candidates import Candidate, in_words, milliseconds

SIZES = (224, 320, 448)
"""Working sizes in pixels that are tried, or the nearest that a transformer's patches divide."""

TILED = ((320, 2), (448, 2), (448, 3))
"""Side of a tile in pixels, and tiles per side, that are tried with pictures above :data:`LARGE`."""

LARGE = 1000
"""Side in pixels of a median training image, or the square of its area, above which tiles are tried."""

_VERSION = 1
_MOST_MINORITY, _MOST_OTHERS = 150, 300
_ENLARGED = 1.1
"""A size is tried up to this multiple of the images' own: what is enlarged shows nothing more."""

_NEARLY_SQUARE = 1.05
"""Longer side over shorter up to which there is nothing to choose: all fits give nearly the same pixels."""

_QUICK_MEMBERS = (BASELINE, "patchcore", "subspace")
_REPLICATES = 1000


FitMaker = Callable[
    [RunConfig, PreparedData, dict[BackboneSettings, FeatureStore], str], Callable[[Fit], FitResult]
]
"""Configuration, rows, features by backbone and device → what does a fit."""


def settle(config: RunConfig, data: PreparedData, fit_maker: FitMaker) -> RunConfig:
    """The run's configuration with all that its recipe leaves open chosen; measures where nothing is kept.

    Args:
        config: with defaults in place of what is open.
        data: prepared by it.
        fit_maker: of the fits of quick members.

    Returns:
        ``config`` itself where nothing is open. What was chosen is written to ``chosen.json`` in the run
        folder, with the figures, before anything is trained.

    Raises:
        UsageError: no size is within ``ms_per_image``.
    """
    if not config.left_to_choose:
        return config
    # Tried in float32 whatever is asked for: what is quantised depends on the size that is chosen.
    config = config.with_backbones(lambda backbone: backbone.in_float32)
    given = replace(config, recipe=_with(config, DEFAULTS))
    # Without feedback images: one more label is no reason to compute everything again at another size.
    # Nor does it matter which of its unlabelled images got a label since.
    labelled_since = {row.sha256 for row in data.joined}
    labelled_since |= {row.sha256 for row in PutAside.read(config.folder, "held_back").rows}
    kept_paths = {row.path for row in data.own_train}
    rows = [
        [row.path, row.label, row.group, row.sha256]
        for row in data.manifest.usable("train")
        if row.path in kept_paths or row.sha256 in labelled_since
    ]
    key = digest_of([_VERSION, _facts(given), rows, data.regime])
    kept = read_chosen(config.folder)
    if kept.get("key") != key:
        document = {"key": key, **_chosen(given, data, fit_maker)}
        write_json(config.folder / FILE, document)
    else:
        document = kept
    note(document["sentence"])
    return resolve_config(config.options)


def _facts(config: RunConfig) -> list[Any]:
    """What a choice depends on beside the rows."""
    recipe = config.recipe
    # Said only where tiles are stated, so that what was chosen before there were any stays.
    stated = ["tiles stated"] if "image_size" in config.left_to_choose and not config.offers_tiles else []
    return [
        recipe.backbone.identity(), config.shape_key, list(config.left_to_choose), recipe.ms_per_image,
        config.spec.window, config.spec.scaled_jpeg, config.seed,
        [plan.identity() for plan in _probes(config)],
        *recipe.said_of_views_at_scoring.values(), *stated,
    ]  # fmt: skip


def _with(config: RunConfig, values: dict[str, Any]) -> Recipe:
    """The recipe with these values of what it leaves open."""
    recipe, open_ = config.recipe, config.left_to_choose
    if "fit" in open_:
        recipe = recipe.model_copy(update={"fit": values["fit"]})
    if "image_size" in open_:
        sizes = {"image_size": values["image_size"]}
        sizes |= {"tiles": values.get("tiles", 1)} if config.offers_tiles else {}
        recipe = recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update=sizes)})
    return recipe


def _probes(config: RunConfig) -> list[MemberPlan]:
    """The quick members, by the recipe's own settings where it has them, all on the recipe's backbone."""
    own = {
        plan.name: plan for plan in config.members if plan.name in _QUICK_MEMBERS and plan.name == plan.type
    }
    backbone = config.recipe.backbone
    return [
        MemberPlan(
            name=name,
            type=name,
            settings=own[name].settings if name in own else settings_class(name)(**entry_of(name).defaults),
            backbone=backbone,
        )
        for name in _QUICK_MEMBERS
    ]


def _chosen(config: RunConfig, data: PreparedData, fit_maker: FitMaker) -> dict[str, Any]:
    """Values, figures and a sentence."""
    defaults = {name: DEFAULTS[name] for name in config.left_to_choose}
    step = _size_step(config)
    if "image_size" in defaults:
        defaults["image_size"] = _nearest(defaults["image_size"], step)
    if data.regime != "labelled" or not all(
        can_learn(plan, data, fold) for plan in _probes(config) for fold in set(data.fold_of_row.tolist())
    ):
        words = "too few minority images are labelled to measure anything out of fold"
        return {"values": defaults, "figures": [], "sentence": _kept(defaults, words)}
    sizes = (
        _sizes(config, data, step)
        if "image_size" in config.left_to_choose
        else (config.recipe.backbone.image_size,)
    )
    fits = _fits(config, data) if "fit" in config.left_to_choose else (config.recipe.fit,)
    tiled = _tiled(config, data, step)
    if len(sizes) == len(fits) == 1 and not tiled:
        words = "the training images are no larger and nearly square"
        return {"values": defaults, "figures": [], "sentence": _kept(defaults, words)}
    data = _some(data, config.seed)
    tried = [_measured(config, data, fit, sizes[0], fit_maker) for fit in fits]
    best_fit = _cheapest(tried, data, config.seed)[0].fit
    tried += [_measured(config, data, best_fit, size, fit_maker) for size in sizes[1:]]
    in_tiles, too_slow = _measured_in_tiles(config, data, best_fit, tiled, fit_maker)
    tried += in_tiles
    affordable = [
        each for each in tried if config.recipe.ms_per_image is None or each.ms <= config.recipe.ms_per_image
    ]
    if not affordable:
        least = min(tried, key=lambda each: each.ms)
        raise UsageError(
            f"ms_per_image={config.recipe.ms_per_image:g}: at {least.image_size} px, the least size, the "
            f"backbone {config.recipe.backbone.name} takes {least.ms:.1f} ms per image here. Allow more, or "
            "name a size."
        )
    taken, figures = _cheapest(affordable, data, config.seed)
    values = {name: getattr(taken, name) for name in config.left_to_choose}
    values |= {"tiles": taken.tiles} if config.offers_tiles and taken.tiles > 1 else {}
    _print(figures, taken)
    judged = "" if data.test else " Figures that are cross-validated have seen this choice."
    sentence = (
        f"Chosen out of fold on {len(data.train)} training images: {taken.name}, the cheapest of "
        f"{len(affordable)} that is within one standard error of the best.{too_slow}{judged}"
    )
    return {"values": values, "figures": figures, "sentence": sentence}


def _kept(values: dict[str, Any], words: str) -> str:
    shown = ", ".join(f"{name}={value}" for name, value in values.items())
    return f"Nothing to choose, because {words}: {shown}."


def _size_step(config: RunConfig) -> int:
    """Pixels that sizes are multiples of, so that a transformer's patches divide them."""
    if "image_size" not in config.left_to_choose:
        return 1
    # torch is imported from here on.
    from features.backbones import size_step

    return size_step(config.recipe.backbone)


def _nearest(size: int, step: int) -> int:
    """The multiple of ``step`` nearest to ``size``, at least one."""
    return max(1, round(size / step)) * step


def _sizes(config: RunConfig, data: PreparedData, step: int) -> tuple[int, ...]:
    """The sizes that the median training image can fill, in as many tiles as the recipe states."""
    most = _ENLARGED * _own_size(config, data) / _stated_tiles(config)
    first, *others = dict.fromkeys(_nearest(size, step) for size in SIZES)
    return first, *(size for size in others if size <= most)


def _stated_tiles(config: RunConfig) -> int:
    return 1 if config.offers_tiles else config.recipe.backbone.tiles


def _own_size(config: RunConfig, data: PreparedData) -> float:
    """Side in pixels of a square of the area of the median training image, or of the region in it."""
    share = 1.0 if config.region is None else config.region.share
    return float(np.median([np.sqrt(row.width * row.height * share) for row in data.train]))


def _tiled(config: RunConfig, data: PreparedData, step: int) -> tuple[tuple[int, int], ...]:
    """Sizes and tiles that the median training image can fill, where it is large enough to be cut at all."""
    own = _own_size(config, data)
    if not config.offers_tiles or own <= LARGE:
        return ()
    sizes = ((_nearest(size, step), tiles) for size, tiles in TILED)
    return tuple((size, tiles) for size, tiles in sizes if size * tiles <= _ENLARGED * own)


def _measured_in_tiles(
    config: RunConfig,
    data: PreparedData,
    fit: str,
    tiled: Sequence[tuple[int, int]],
    fit_maker: FitMaker,
) -> tuple[list[Candidate], str]:
    """Candidates in tiles that the budget allows, and a sentence on the first that it does not."""
    tried: list[Candidate] = []
    budget = config.recipe.ms_per_image
    for size, tiles in tiled:
        backbone = config.recipe.backbone.model_copy(update={"tiles": tiles})
        cut = replace(config, recipe=config.recipe.model_copy(update={"backbone": backbone}))
        # Timed first: features in tiles take minutes, for nothing where they are too slow. All further ones
        # are slower.
        if budget is not None and (ms := milliseconds(cut, size)) > budget:
            return tried, (
                f" Not tried: {in_words(size, tiles)}, whose {ms:.1f} ms per image are more than "
                f"ms_per_image={budget:g}, and whatever is larger."
            )
        tried.append(_measured(cut, data, fit, size, fit_maker))
    return tried, ""


def _fits(config: RunConfig, data: PreparedData) -> tuple[str, ...]:
    """All fits, but where nearly all training images, or the region of them, are nearly square."""
    aspects = []
    for row in data.train:
        left, top, right, bottom = (
            (0, 0, row.width, row.height)
            if config.region is None
            else config.region.bounds((row.width, row.height))
        )
        longer, shorter = sorted((right - left, bottom - top), reverse=True)
        aspects.append(longer / shorter)
    return FITS if np.quantile(aspects, 0.95) > _NEARLY_SQUARE else FITS[:1]


def _some(data: PreparedData, seed: int) -> PreparedData:
    """At most 150 training rows of the minority and 300 others, drawn by a hash of their content."""
    minority = data.manifest.class_names[-1]
    order = sorted(
        range(len(data.train)),
        key=lambda i: hashlib.sha256(f"{seed}|auto|{data.train[i].sha256}".encode()).hexdigest(),
    )
    own = [i for i in order if data.train[i].label == minority][:_MOST_MINORITY]
    others = [i for i in order if data.train[i].label != minority][:_MOST_OTHERS]
    chosen = np.array(sorted(own + others))
    train = [data.train[i] for i in chosen]
    # Without copies and views, which would cost as many features again.
    folds = data.fold_of_row[chosen]
    return replace(data, train=train, fold_of_row=folds, more_folds=(), augmented=(), views={})


def _measured(config: RunConfig, data: PreparedData, fit: str, size: int, fit_maker: FitMaker) -> Candidate:
    """Compute a candidate's features, which training finds again, and cross-fit the quick members on them."""
    from workflow.run.features import load_backbones

    backbone = config.recipe.backbone.model_copy(update={"image_size": size})
    recipe = config.recipe.model_copy(update={"fit": fit, "backbone": backbone})
    config = replace(config, recipe=recipe)
    probes = tuple(_probes(config))
    device = pick_device(config.options.device)
    [loaded] = load_backbones(config, {backbone}).values()
    loaded.fill(data, data.train, config.decode, device, views_to_score(config, data.train))
    alone = replace(data, test=[])
    done = fit_maker(config, alone, {backbone: loaded.store}, device)
    total = np.zeros(len(data.train))
    with console.status(f"trying {fit}, {in_words(size, backbone.tiles)}", spinner="dots"):
        for plan in probes:
            scores = np.zeros(len(data.train))
            for each in fits_of(config, alone, (plan,)):
                if each.fold != FINAL and each.repeat == 0:
                    scores[data.fold_of_row == each.fold] = _towards_minority(done(each).scores)
            spread = scores.std()
            # A member that collapsed says nothing.
            total += (scores - scores.mean()) / spread if np.isfinite(spread) and spread > 0.0 else 0.0
    return Candidate(fit, size, milliseconds(config, size), total, backbone.tiles)


def _towards_minority(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """``[n]`` of ``[n, C]``: the score itself, or the minority's logit over those of the other classes."""
    wide = scores.astype(np.float64)
    if wide.shape[1] == 1:
        return wide[:, 0]
    others = wide[:, :-1]
    most = others.max(axis=1)
    return np.asarray(wide[:, -1] - most - np.log(np.exp(others - most[:, None]).sum(axis=1)))


def _cheapest(
    tried: Sequence[Candidate], data: PreparedData, seed: int
) -> tuple[Candidate, list[dict[str, Any]]]:
    """The cheapest within one standard error of the best, and what is shown of all."""
    is_minority = data.labels(data.train) == len(data.manifest.class_names) - 1
    rankings = [Ranking(is_minority, each.scores) for each in tried]
    aurocs = [float(ranking(np.ones((len(is_minority), 1)))[0][0]) for ranking in rankings]
    blocks = list(
        replicate_weights(
            is_minority.astype(np.int64), group_numbers(data.train), n_replicates=_REPLICATES, seed=seed
        )
    )
    drawn = np.stack([np.concatenate([ranking(block.T)[0] for block in blocks]) for ranking in rankings])
    best = int(np.argmax(aurocs))
    errors = [float((drawn[best] - each).std(ddof=1)) for each in drawn]
    # Tried in the order of their cost; of equal sizes, the default fit is the first.
    taken = next(i for i in range(len(tried)) if aurocs[best] - aurocs[i] <= errors[i])
    figures = []
    for place, each in enumerate(tried):
        low, high = central_interval(drawn[place] - drawn[0])
        figures.append(
            {
                "fit": each.fit,
                "image_size": each.image_size,
                "tiles": each.tiles,
                "ms": round(each.ms, 2),
                "auroc": aurocs[place],
                "minus_first": [aurocs[place] - aurocs[0], float(low), float(high)],
                "standard_error_to_best": errors[place],
            }
        )
    return tried[taken], figures


def _print(figures: Sequence[dict[str, Any]], taken: Candidate) -> None:
    """Show what was tried."""
    table = Table(title="Working size and fit, by out-of-fold AUROC of quick members on training images")
    for heading in ("fit", "px", "ms per image", "AUROC", "against the first", ""):
        table.add_column(heading, justify="left" if heading in {"fit", ""} else "right")
    for each in figures:
        difference, low, high = each["minus_first"]
        size = each["image_size"], each["tiles"]
        is_taken = (each["fit"], *size) == (taken.fit, taken.image_size, taken.tiles)
        table.add_row(
            each["fit"], in_words(*size).removesuffix(" px"), f"{each['ms']:.1f}", f"{each['auroc']:.4f}",
            f"{difference:+.4f} ({low:+.4f} to {high:+.4f})", "taken" if is_taken else "",
        )  # fmt: skip
    console.print(table)
