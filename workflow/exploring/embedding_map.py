"""The embedding map of a data set and the images that lie far from their own class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from contracts.rows import LabelArray
from features.devices import pick_device
from features.embedding import NEIGHBOURS, Embedding, embed, farthest
from imagedata.manifest import Manifest
from imagedata.manifest_row import ManifestRow
from imagedata.sampling import seeded_rank
from workflow.run.features import load_backbones
from workflow.run.prepared import PreparedData
from workflow.settings.config import RunConfig

MAP_ROWS = 5000
"""Rows on the map at most; a backbone takes minutes for more on two cores, and eyes gain nothing."""

_MINORITY_ROWS = 1500
_NAMED = 8
_MOST_CLASSES = 8
_LEAST_ROWS = 3


@dataclass(frozen=True)
class MappedRows:
    """Rows on the map.

    Attributes:
        rows: N rows of the manifest.
        labels: ``[N]`` class index, minority last.
        embedding: of these rows.
        outliers: class index → positions among ``rows``, the farthest first; the minority's class first.
        sentence: what was mapped, and how.
    """

    rows: list[ManifestRow]
    labels: LabelArray
    embedding: Embedding
    outliers: dict[int, list[int]]
    sentence: str

    @property
    def named(self) -> list[int]:
        """Positions of all outliers in the order of their numbers, from 1."""
        return [row for rows in self.outliers.values() for row in rows]

    def facts(self, position: int) -> dict[str, Any]:
        """What is known of one outlier."""
        row, of = self.rows[position], self.embedding
        return {
            "path": row.path,
            "label": row.label,
            "split": row.split,
            "distance": float(of.distance[position]),
            "ratio": float(of.ratio[position]),
            "foreign_neighbours": float(of.foreign[position]),
        }

    def words(self, position: int) -> str:
        """The same for people."""
        of = self.embedding
        n_near = min(NEIGHBOURS, len(self.rows) - 1)
        foreign = round(n_near * float(of.foreign[position]))
        near = f"; {foreign} of {n_near} nearest are of other classes" if foreign else ""
        return f"{of.ratio[position]:.1f} times as far as usual{near}"


def map_rows(config: RunConfig, manifest: Manifest) -> MappedRows | None:
    """Compute what the feature cache lacks, and lay the usable rows out; None where there are too few."""
    chosen = _chosen(manifest, config.seed)
    if len(chosen) < _LEAST_ROWS:
        return None
    train, test = manifest.usable("train"), manifest.usable("test")
    # Folds do not matter for a map; the zeros are never read.
    data = PreparedData(manifest, train, test, np.zeros(len(train), dtype=np.int64))
    settings = config.recipe.backbone
    backbone = load_backbones(config, {settings})[settings]
    backbone.fill(data, chosen, config.decode, pick_device(config.options.device))
    rows = backbone.rows(data, chosen, config.decode)
    labels = np.asarray(data.labels(chosen))
    embedding = embed(rows.pooled(), labels, config.seed)
    minority = len(manifest.class_names) - 1
    classes = [minority, *range(minority)][:_MOST_CLASSES]
    outliers = {label: farthest(embedding, labels, label, _NAMED) for label in classes}
    total = len(train) + len(test)
    part = f"{len(chosen):,} of {total:,}" if len(chosen) < total else f"All {total:,}"
    sentence = (
        f"{part} usable images by the pooled features of the backbone {settings.name}, "
        f"in the plane by {embedding.method}. Labels only colour it. Distances are taken in the principal "
        f"components that keep {embedding.explained:.0%} of the variance: the mean to an image's "
        f"{NEIGHBOURS} nearest of its own class, against what is usual there. An image that lies far away, "
        "or among another class, may be mislabelled, damaged, or the rarest find of all: look at it."
    )
    return MappedRows(chosen, labels, embedding, outliers, sentence)


def _chosen(manifest: Manifest, seed: int) -> list[ManifestRow]:
    """All usable rows, or a seeded draw with as many of the minority as stand a chance to be seen."""
    rows = [*manifest.usable("train"), *manifest.usable("test")]
    if len(rows) <= MAP_ROWS:
        return rows
    in_order = sorted(rows, key=lambda row: (seeded_rank(seed, "map", row.sha256), row.path))
    minority = [row for row in in_order if row.label == manifest.class_names[-1]][:_MINORITY_ROWS]
    others = [row for row in in_order if row.label != manifest.class_names[-1]]
    return [*others[: MAP_ROWS - len(minority)], *minority]
