"""Scores, map and deciding patches that the final members of a run give for single images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from contracts.member import DecidingPatch, ExplainingMember, Member
from contracts.rows import FloatArray, ImageArray
from features.apply import feature_batches
from features.cache import PassingStore
from features.extract import ImageFile, extract_features
from features.rows import CachedRows
from workflow.run.features import BackboneWithStore, load_backbones
from workflow.run.fits import FINAL, Fit
from workflow.run.state import Run
from workflow.settings.registry import build_member

_USUAL_ROWS = 32
"""Majority rows whose maps show what is usual."""


@dataclass(frozen=True)
class Evidence:
    """Of one image.

    Attributes:
        scores: ``[M]`` in the order of the ensemble's columns.
        heat: ``[g, g]`` map, or None.
        patches: those that decided the score of the member whose map it is; none if it cannot name any.
    """

    scores: FloatArray
    heat: FloatArray | None
    patches: list[DecidingPatch]


@dataclass(frozen=True)
class AllEvidence:
    """Of several images.

    Attributes:
        of_images: one each.
        heat_of: member whose map it is; empty where no member has one.
        usual: median and 99.5 % percentile of that map over majority rows of the test set, or without one of
            the training set.
        grid: cells per side of the map.
        notes: what could not be said, and why.
    """

    of_images: list[Evidence]
    heat_of: str
    usual: tuple[float, float]
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
        [_mean_scores(restored[name], rows_of_backbone[backbone_of[name]]) for name in names], axis=1
    )
    notes: list[str] = []
    heat: FloatArray | None = None
    usual, heat_of = (0.0, 0.0), ""
    # One map per image: the first member that has one, in the order of how much can be said with it.
    for name in _by_weight(run, names, restored):
        rows = rows_of_backbone[backbone_of[name]]
        maps = [_mean_maps(run, restored[name], rows.subset(np.array([i]))) for i in range(len(rows))]
        if maps[0] is not None:
            heat = np.concatenate([each for each in maps if each is not None])
            heat_of, usual = name, _usual(run, restored[name], backbones[backbone_of[name]])
            break
    patches: list[list[DecidingPatch]] = [[] for _ in images]
    shapes = next(iter(backbones.values())).store.shapes
    explainer = restored[heat_of][0] if heat_of else None
    if isinstance(explainer, ExplainingMember):
        shapes = backbones[backbone_of[heat_of]].store.shapes
        features = np.concatenate(list(rows_of_backbone[backbone_of[heat_of]].patches()))
        # The image itself is left out of the neighbours: it may be a training image, at distance 0 from
        # itself.
        patches = [
            explainer.deciding_patches(patch_CGG, n_nearest, without=[sha256])
            for patch_CGG, (_, sha256, _) in zip(features, images, strict=True)
        ]
    else:
        notes.append("The ensemble has no PatchCore, so there are no nearest normal patches to show.")
    of_images = [
        Evidence(scores[i], None if heat is None else heat[i], patches[i]) for i in range(len(images))
    ]
    return AllEvidence(of_images, heat_of, usual, shapes.patch_grid, tuple(notes))


def _restored(run: Run, fit: Fit) -> Member:
    plan, result = fit.member, run.results[fit]
    return build_member(plan.type, plan.settings, plan.backbone).restore(result.state, result.state_meta)


def _rows(
    run: Run, backbone: BackboneWithStore, images: Sequence[tuple[Path, str, ImageArray]]
) -> CachedRows:
    """The images as members see them, with features that are held in memory."""
    store = PassingStore(backbone.store)
    files = [ImageFile(sha256, path) for path, sha256, _ in images]
    for file in files:
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


def _mean_scores(members: list[Member], rows: CachedRows) -> FloatArray:
    each = [np.array([i]) for i in range(len(rows))]
    scores = [np.concatenate([member.score(rows.subset(one)) for one in each]) for member in members]
    if len(scores) == 1:
        return scores[0]
    return np.asarray(np.mean(scores, axis=0, dtype=np.float64), dtype=np.float32)


def _mean_maps(run: Run, members: list[Member], rows: CachedRows) -> FloatArray | None:
    """``[n, g, g]``, lowest outside of the region of interest, or None where the member has no map.

    Training images are mapped as if the member had not learned from them, where it can do so.
    """
    maps = []
    for member in members:
        if isinstance(member, ExplainingMember):
            maps.append(torch.from_numpy(member.maps_without_own(rows)))
            continue
        module = member.to_module().eval()
        with torch.inference_mode():
            found = [module(features)[1] for features in feature_batches(rows, member.needs, "cpu")]
        if found[0] is None:
            return None
        maps.append(torch.cat(found).float())
    mean, decode = np.asarray(torch.stack(maps).mean(dim=0).numpy()), run.config.decode
    return mean if decode.region is None else decode.region.within(mean, decode.fit)


def _by_weight(run: Run, names: list[str], fits: dict[str, list[Member]]) -> list[str]:
    """Members that can explain a score come first; among equals, the one with the largest weight."""
    columns, weights = run.fitted.columns, np.abs(run.fitted.combination.weights).max(axis=1)
    weight = {name: max(weights[i] for i, c in enumerate(columns) if c.member == name) for name in names}
    return sorted(names, key=lambda name: (not isinstance(fits[name][0], ExplainingMember), -weight[name]))


def _usual(run: Run, members: list[Member], backbone: BackboneWithStore) -> tuple[float, float]:
    minority = run.fitted.class_names[-1]
    rows = [row for row in run.data.judged if row.label != minority]
    # Evenly spaced rather than the first, which may all be of one group.
    rows = rows[:: max(1, len(rows) // _USUAL_ROWS)][:_USUAL_ROWS]
    backbone.fill(run.data, rows, run.config.decode, "cpu")
    maps = _mean_maps(run, members, backbone.rows(run.data, rows, run.config.decode))
    assert maps is not None  # the caller has seen one
    median, most = np.percentile(maps, [50.0, 99.5])
    return float(median), float(most)
