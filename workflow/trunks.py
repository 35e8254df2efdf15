"""Trunks of a run, each loaded once, with its feature store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.cache import FeatureStore, bytes_per_image
from features.extract import ImageFile, extract_features
from features.rows import CachedRows
from features.settings import TrunkSettings
from features.trunks import Trunk
from imagedata.decode import DecodeSettings
from imagedata.manifest import ManifestRow
from workflow.config import RunConfig
from workflow.console import progress_bar
from workflow.prepare import PreparedData

__all__ = ["TrunkWithStore", "bytes_per_image", "load_trunks"]


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
        return CachedRows(
            self.store,
            [row.sha256 for row in rows],
            [data.file_of(row) for row in rows],
            np.asarray(data.labels(rows)),
            len(data.manifest.class_names),
            decode,
        )


def load_trunks(config: RunConfig, settings: set[TrunkSettings]) -> dict[TrunkSettings, TrunkWithStore]:
    """Load trunks and open their stores; features are shared by all runs below ``--runs``.

    Raises:
        UsageError: a trunk that does not exist.
        ModelError: weights that cannot be had.
    """
    loaded = {}
    for each in settings:
        trunk = Trunk(each)
        # A 16-bit window changes pixels, so it is part of where the features lie.
        window = "" if config.spec.window is None else f"-w{config.spec.window[0]:g}-{config.spec.window[1]:g}"
        folder: Path = config.options.runs / "features" / f"{each.name.replace(':', '_')}-{trunk.cache_key}{window}"
        loaded[each] = TrunkWithStore(trunk, FeatureStore(folder, trunk.shapes))
    return loaded
