"""Trunks of a run, each loaded once, with its feature store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.cache import FeatureStore
from features.extract import ImageFile, extract_features
from features.rows import CachedRows
from features.settings import TrunkSettings
from features.trunks import Trunk
from imagedata.decoding.decode import DecodeSettings
from imagedata.manifest_row import ManifestRow
from reporting.terminal import progress_bar
from workflow.run.prepared import PreparedData, group_numbers
from workflow.settings.config import RunConfig
from workflow.settings.recipe import MemberPlan
from workflow.settings.registry import build_member


@dataclass
class TrunkWithStore:
    """A trunk and the features already computed with it."""

    trunk: Trunk
    store: FeatureStore

    def fill(self, data: PreparedData, rows: list[ManifestRow], decode: DecodeSettings, device: str) -> int:
        """Compute the features of rows that the store lacks; returns how many."""
        files = [ImageFile(row.sha256, data.file_of(row)) for row in rows]
        n_missing = len({file.sha256 for file in files if file.sha256 not in self.store})
        if n_missing == 0:
            return 0
        with progress_bar(f"trunk {self.trunk.settings.name}", n_missing) as bar:
            return extract_features(self.trunk, self.store, files, decode, device, bar.advance)

    def rows(self, data: PreparedData, rows: list[ManifestRow], decode: DecodeSettings) -> CachedRows:
        """The given manifest rows as members see them."""
        return rows_of(self.store, data, rows, decode)


def rows_of(
    store: FeatureStore, data: PreparedData, rows: list[ManifestRow], decode: DecodeSettings
) -> CachedRows:
    """The given manifest rows as members see them, with the features of a store."""
    return CachedRows(
        store,
        [row.sha256 for row in rows],
        [data.file_of(row) for row in rows],
        np.asarray(data.labels(rows)),
        len(data.manifest.class_names),
        decode,
        group_numbers(rows),
        np.array([row.split == "augmented" for row in rows], dtype=np.bool_),
    )


def trunks_read_by(plans: Iterable[MemberPlan]) -> set[TrunkSettings]:
    """The trunks whose features some of the members read; members that read pixels alone read none."""
    return {
        plan.trunk
        for plan in plans
        if build_member(plan.type, plan.settings, plan.trunk).needs != frozenset({"images"})
    }


def load_trunks(config: RunConfig, settings: set[TrunkSettings]) -> dict[TrunkSettings, TrunkWithStore]:
    """Load trunks and open their stores; features are shared by all runs below ``--runs``.

    Raises:
        UsageError: a trunk that does not exist.
        ModelError: weights that cannot be had.
    """
    loaded = {}
    for each in settings:
        trunk = Trunk(each)
        loaded[each] = TrunkWithStore(trunk, FeatureStore(feature_folder(config, trunk), trunk.shapes))
    return loaded


def feature_folder(config: RunConfig, trunk: Trunk) -> Path:
    """Where the features of a trunk lie, and the trunk's own graphs, for all runs below ``--runs``."""
    name = f"{trunk.settings.name.replace(':', '_')}-{trunk.cache_key}"
    if config.spec.window is not None:
        # A 16-bit window changes pixels, so it is part of where the features lie.
        low, high = config.spec.window
        name += f"-window-{low:g}-{high:g}"
    if config.spec.scaled_jpeg:
        name += "-scaled"
    return config.options.runs / "features" / name
