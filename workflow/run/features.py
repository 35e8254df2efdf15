"""Backbones of a run, each loaded once, with its feature store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contracts.rows import FloatArray, IndexArray
from features.backbones import Backbone
from features.cache import FeatureStore
from features.extract import ImageFile, extract_features
from features.rows import CachedRows
from features.settings import BackboneSettings
from imagedata.decoding.decode import DecodeSettings
from imagedata.manifest_row import ManifestRow
from imagedata.views import MirrorImage, View
from reporting.terminal import progress_bar
from workflow.run.copies.views import views_to_fit
from workflow.run.fits import learns_from_copies
from workflow.run.prepared import PreparedData, group_numbers
from workflow.settings.config import RunConfig
from workflow.settings.recipe import MemberPlan
from workflow.settings.registry import build_member


@dataclass
class BackboneWithStore:
    """A backbone and the features already computed with it."""

    backbone: Backbone
    store: FeatureStore

    def fill(
        self,
        data: PreparedData,
        rows: list[ManifestRow],
        decode: DecodeSettings,
        device: str,
        views: Sequence[tuple[ManifestRow, View | MirrorImage]] = (),
    ) -> int:
        """Compute the features of rows and views that the store lacks; returns how many."""
        # Augmented copies were made of pixels at the working size.
        files = [ImageFile(row.sha256, data.file_of(row), row.split == "augmented") for row in rows]
        files += [ImageFile(view.digest, data.file_of(row), view=view) for row, view in views]
        # Distinct bytes: equal files share one entry of the store.
        n_missing = len({file.sha256 for file in files if file.sha256 not in self.store})
        if n_missing == 0:
            return 0
        with progress_bar(f"backbone {self.backbone.settings.name}", n_missing) as bar:
            return extract_features(self.backbone, self.store, files, decode, device, bar.advance)

    def rows(self, data: PreparedData, rows: list[ManifestRow], decode: DecodeSettings) -> CachedRows:
        """The given manifest rows as members see them."""
        return rows_of(self.store, data, rows, decode)


def rows_of(
    store: FeatureStore,
    data: PreparedData,
    rows: list[ManifestRow],
    decode: DecodeSettings,
    views: Sequence[tuple[ManifestRow, View]] = (),
) -> CachedRows:
    """The given manifest rows as members see them, and views behind them, with the features of a store."""
    digests = [*(row.sha256 for row in rows), *(view.digest for _, view in views)]
    seen = [*(None for _ in rows), *(view for _, view in views)]
    rows = [*rows, *(row for row, _ in views)]
    return CachedRows(
        store,
        digests,
        [data.file_of(row) for row in rows],
        np.asarray(data.labels(rows)),
        len(data.manifest.class_names),
        decode,
        group_numbers(rows),
        np.array(
            [row.split == "augmented" or view is not None for row, view in zip(rows, seen, strict=True)],
            dtype=np.bool_,
        ),
        seen,
    )


def rows_to_learn_from(
    store: FeatureStore, data: PreparedData, plan: MemberPlan, decode: DecodeSettings
) -> tuple[CachedRows, IndexArray]:
    """The N training rows and, behind them, the M copies and views that a member learns from as well.

    Returns:
        The rows, and ``[M]`` the position of each copy's or view's image among the N.
    """
    copies: list[ManifestRow] = []
    sources = np.empty(0, dtype=np.int64)
    if learns_from_copies(plan):
        copies, sources = list(data.augmented), data.source_of_copy
    views = views_to_fit(data, [plan])
    rows = rows_of(store, data, [*data.train, *copies], decode, views.pairs)
    return rows, np.concatenate([sources, views.positions])


def backbones_read_by(plans: Iterable[MemberPlan]) -> set[BackboneSettings]:
    """The backbones whose features some of the members read; members that read pixels alone read none."""
    return {
        plan.backbone
        for plan in plans
        if build_member(plan.type, plan.settings, plan.backbone).needs != frozenset({"images"})
    }


def load_backbones(
    config: RunConfig, settings: set[BackboneSettings]
) -> dict[BackboneSettings, BackboneWithStore]:
    """Load backbones and open their stores; features are shared by all runs below ``--runs``.

    Raises:
        UsageError: a backbone that does not exist.
        ModelError: weights that cannot be had.
    """
    loaded = {}
    for each in settings:
        backbone = Backbone(each)
        loaded[each] = BackboneWithStore(
            backbone, FeatureStore(feature_folder(config, backbone), backbone.shapes)
        )
    return loaded


def feature_folder(config: RunConfig, backbone: Backbone) -> Path:
    """Where the features of a backbone lie, and the backbone's own graphs, for all runs below ``--runs``."""
    name = f"{backbone.settings.name.replace(':', '_')}-{backbone.cache_key}"
    if config.spec.window is not None:
        # A 16-bit window changes pixels, so it is part of where the features lie.
        low, high = config.spec.window
        name += f"-window-{low:g}-{high:g}"
    if config.spec.scaled_jpeg:
        name += "-scaled"
    for key, value in config.shape_key.items():
        name += f"-{key}-{value}"
    return config.options.runs / "features" / name


def pooled_features(config: RunConfig, data: PreparedData, rows: Sequence[ManifestRow]) -> FloatArray:
    """``[n, D]`` pooled features by the backbone of the first member that reads one.

    Raises:
        DataError: an image whose features are not in store is gone.
    """
    # Members that read pixels alone name a backbone, too, which then has nothing in store yet.
    plan = next((plan for plan in config.members if backbones_read_by([plan])), config.members[0])
    backbone = load_backbones(config, {plan.backbone})[plan.backbone]
    backbone.fill(data, list(rows), config.decode, "cpu")
    return backbone.rows(data, list(rows), config.decode).pooled()
