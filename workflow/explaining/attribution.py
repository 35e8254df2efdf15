"""Scores, maps and deciding patches that the final members of a run give for single images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from contracts.member import DecidingPatch, ExplainingMember, Member
from contracts.rows import FloatArray, ImageArray
from export.map_fusion import MapsTogether
from features.apply import maps_as_seen, scores_as_seen
from features.cache import PassingStore
from features.extract import ImageFile, extract_features
from features.rows import CachedRows
from imagedata.views import MirrorImage
from workflow.run.copies.views import views_to_score
from workflow.run.features import BackboneWithStore, load_backbones
from workflow.run.fits import FINAL, UNUSUAL, Fit, usual_map_values
from workflow.run.state import Run
from workflow.settings.registry import build_member

TOGETHER = "together"
"""Name of the map of all members."""

_USUAL_ROWS = 32
"""Majority rows whose maps show what is usual."""


@dataclass(frozen=True)
class Evidence:
    """Of one image.

    Attributes:
        scores: ``[M]`` in the order of the ensemble's columns.
        maps: name → ``[g, g]`` map, as in :attr:`AllEvidence.maps`.
        patches: those that decided the score of :attr:`AllEvidence.explainer`; none if there is none.
    """

    scores: FloatArray
    maps: dict[str, FloatArray]
    patches: list[DecidingPatch]


@dataclass(frozen=True)
class Map:
    """What is known of a map, whichever image it is of.

    Attributes:
        unit: of its values: ``distance``, ``logit``, or empty for all maps together, whose scale is that of
            :class:`export.map_fusion.MapsTogether`.
        usual: median and 99.5 % percentile over majority rows of the test set, or without one of the training
            set.
    """

    unit: str
    usual: tuple[float, float]


@dataclass(frozen=True)
class AllEvidence:
    """Of several images.

    Attributes:
        of_images: one each.
        maps: name → map: :data:`TOGETHER` first where several members have one, then members, those that can
            name deciding patches first, then by weight.
        explainer: member that names deciding patches, whose map is there; empty where there is none.
        grid: cells per side of that member's map.
        notes: what could not be said, and why.
    """

    of_images: list[Evidence]
    maps: dict[str, Map]
    explainer: str
    grid: int
    notes: tuple[str, ...]


def evidence_of(run: Run, images: Sequence[tuple[Path, str, ImageArray]], n_nearest: int) -> AllEvidence:
    """Score images with the members that the ensemble is made of; nothing of them is kept on disk.

    Where the ensemble is a vote of several repeats, scores and maps are the mean over them, and deciding
    patches are those of the first.

    Args:
        run: finished.
        images: path, digest and pixels at the working size of each; at least one.
        n_nearest: normal patches beside each deciding one.
    """
    fit_of = {
        (fit.member.name, fit.repeat): fit
        for fit in run.results
        if fit.fold == FINAL and fit.repeat in run.repeats
    }
    names = list(dict.fromkeys(column.member for column in run.fitted.columns))
    restored = {name: [_restored(run, fit_of[name, repeat]) for repeat in run.repeats] for name in names}
    backbone_of = {name: fit_of[name, run.repeats[0]].member.backbone for name in names}
    backbones = load_backbones(run.config, set(backbone_of.values()))
    rows_of_backbone = {settings: _rows(run, backbone, images) for settings, backbone in backbones.items()}
    scores = np.concatenate(
        [_mean_scores(run, restored[name], rows_of_backbone[backbone_of[name]]) for name in names], axis=1
    )
    order = _by_weight(run, names, restored)
    maps = {
        name: heat
        for name in order
        # One image at a time: rounding depends on the batch.
        if (heat := _maps_one_by_one(run, restored[name], rows_of_backbone[backbone_of[name]])) is not None
    }
    facts = {}
    normal_maps = {}
    for name in maps:
        normal_maps[name] = _normal_maps(run, restored[name], backbones[backbone_of[name]])
        unit = "logit" if restored[name][0].score_meaning == "logit" else "distance"
        facts[name] = Map(unit, _usual(normal_maps[name]))
    if len(maps) > 1:
        maps = {TOGETHER: _together(run, maps), **maps}
        facts = {TOGETHER: Map("", _usual(_together(run, normal_maps))), **facts}
    notes: list[str] = []
    patches: list[list[DecidingPatch]] = [[] for _ in images]
    shapes = next(iter(backbones.values())).store.shapes
    explainer = restored[order[0]][0]
    if isinstance(explainer, ExplainingMember):
        shapes = backbones[backbone_of[order[0]]].store.shapes
        features = np.concatenate(list(rows_of_backbone[backbone_of[order[0]]].patches()))
        # The image itself is left out of the neighbours: it may be a training image, at distance 0 from
        # itself.
        patches = [
            explainer.deciding_patches(patch_CGG, n_nearest, without=[sha256])
            for patch_CGG, (_, sha256, _) in zip(features, images, strict=True)
        ]
    else:
        notes.append("The ensemble has no PatchCore, so there are no nearest normal patches to show.")
    if run.config.recipe.views_at_scoring == "mirror":
        notes.append(
            "Scores and maps are the mean of each image's and of its mirror image's; patches are those of "
            "the image as it is."
        )
    of_images = [
        Evidence(scores[i], {name: heat[i] for name, heat in maps.items()}, patches[i])
        for i in range(len(images))
    ]
    named = order[0] if isinstance(explainer, ExplainingMember) else ""
    return AllEvidence(of_images, facts, named, shapes.patch_grid, tuple(notes))


def _maps_one_by_one(run: Run, members: list[Member], rows: CachedRows) -> FloatArray | None:
    maps = []
    for i in range(len(rows)):
        found = _mean_maps(run, members, rows.subset(np.array([i])))
        if found is None:
            return None
        maps.append(found)
    return np.concatenate(maps)


def _together(run: Run, maps: dict[str, FloatArray]) -> FloatArray:
    """All maps as one, by the module that the exported file has."""
    usual = usual_map_values(run.results, run.repeats)
    module = MapsTogether([usual.get(name) for name in maps])
    with torch.inference_mode():
        found = module([torch.from_numpy(heat) for heat in maps.values()])
    assert found is not None  # each has been mapped on the folds, too
    return np.asarray(found.numpy())


def _restored(run: Run, fit: Fit) -> Member:
    plan, result = fit.member, run.results[fit]
    return build_member(plan.type, plan.settings, plan.backbone).restore(result.state, result.state_meta)


def _rows(
    run: Run, backbone: BackboneWithStore, images: Sequence[tuple[Path, str, ImageArray]]
) -> CachedRows:
    """The images as members see them, with features that are held in memory."""
    store = PassingStore(backbone.store)
    files = [ImageFile(sha256, path) for path, sha256, _ in images]
    mirrored: list[ImageFile] = []
    if run.config.recipe.views_at_scoring == "mirror":
        seen = [(path, MirrorImage(sha256)) for path, sha256, _ in images]
        mirrored = [ImageFile(image.digest, path, view=image) for path, image in seen]
    for file in [*files, *mirrored]:
        # One at a time: rounding depends on the batch, and no image may change what is said of another.
        extract_features(backbone.backbone, store, [file], run.config.decode, "cpu")
    labels = np.zeros(len(images), dtype=np.int64)  # nobody reads them in scoring
    return CachedRows(
        store,
        [file.sha256 for file in files],
        [file.path for file in files],
        labels,
        run.fitted.n_classes,
        run.config.decode,
    )


def _mean_scores(run: Run, members: list[Member], rows: CachedRows) -> FloatArray:
    each, views = [np.array([i]) for i in range(len(rows))], run.config.recipe.views_at_scoring
    scores = [
        np.concatenate([scores_as_seen(member, rows.subset(one), views) for one in each])
        for member in members
    ]
    if len(scores) == 1:
        return scores[0]
    return np.asarray(np.mean(scores, axis=0, dtype=np.float64), dtype=np.float32)


def _mean_maps(run: Run, members: list[Member], rows: CachedRows) -> FloatArray | None:
    """``[n, g, g]``, lowest outside of the region of interest, or None where the member has no map.

    Training images are mapped as if the member had not learned from them, where it can do so.
    """
    maps = []
    for member in members:
        without_own = member.maps_without_own if isinstance(member, ExplainingMember) else None
        found = maps_as_seen(member, rows, run.config.recipe.views_at_scoring, without_own)
        if found is None:
            return None
        maps.append(torch.from_numpy(found))
    mean, decode = np.asarray(torch.stack(maps).mean(dim=0).numpy()), run.config.decode
    return mean if decode.region is None else decode.region.within(mean, decode.fit)


def _by_weight(run: Run, names: list[str], fits: dict[str, list[Member]]) -> list[str]:
    """Members that can explain a score come first; among equals, the one with the largest weight."""
    columns, weights = run.fitted.columns, np.abs(run.fitted.combination.weights).max(axis=1)
    weight = {name: max(weights[i] for i, c in enumerate(columns) if c.member == name) for name in names}
    return sorted(names, key=lambda name: (not isinstance(fits[name][0], ExplainingMember), -weight[name]))


def _normal_maps(run: Run, members: list[Member], backbone: BackboneWithStore) -> FloatArray:
    """``[n, g, g]`` maps of some majority rows; of members that have maps."""
    minority = run.fitted.class_names[-1]
    rows = [row for row in run.data.judged if row.label != minority]
    # Evenly spaced rather than the first, which may all be of one group.
    rows = rows[:: max(1, len(rows) // _USUAL_ROWS)][:_USUAL_ROWS]
    backbone.fill(run.data, rows, run.config.decode, "cpu", views_to_score(run.config, rows))
    maps = _mean_maps(run, members, backbone.rows(run.data, rows, run.config.decode))
    assert maps is not None  # the caller has seen one
    return maps


def _usual(maps: FloatArray) -> tuple[float, float]:
    median, most = np.percentile(maps, [50.0, UNUSUAL])
    return float(median), float(most)
