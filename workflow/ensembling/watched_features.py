"""A few directions of the pooled features, which the watch over what comes in compares batches by.

They are the first principal directions of normal training images: along these, images differ most. The
directions are fitted on the rows of some folds, and what values are usual is counted on the rows of the
others: new images are to the directions what these are, so that counts of the very rows that were fitted,
which lie closer, would raise false alarms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contracts.rows import FloatArray
from export.scoring.watch.drift import MARGIN
from export.scoring.watch.reference import FloatArray64, IntArray, Quantity, feature_name
from features.settings import BackboneSettings
from workflow.ensembling.gate_images import GateImages, pooled_of_pixels
from workflow.ensembling.trained_system import TrainedSystem, final_members
from workflow.run.state import Run

if TYPE_CHECKING:
    from export.graph import WatchedFeatures as GraphFeatures
    from workflow.run.features import BackboneWithStore

DIRECTIONS = 8
"""At most. On solar cells and faces twice and three times as many found nothing more
(``docs/results/watch.md``), and every one is another comparison."""

_LEAST_ROWS = 10
"""Normal images that directions are fitted on, and that values are counted on, at least."""

_MOST_ROWS = 1000
"""Of each, and of the minority: spread over the rows."""


@dataclass(frozen=True)
class WatchedFeatures:
    """Directions of one backbone's pooled features, and the rows that say what is usual.

    Attributes:
        loaded: the backbone whose features they are, with its store.
        mean: ``[D]`` float32 that is taken off.
        directions: ``[D, k]`` float32, scaled to a standard deviation of 1 among the counted normal rows.
        pooled: ``[N, D]`` features of training rows that no direction was fitted on.
        is_minority: ``[N]`` 0 or 1.
    """

    loaded: BackboneWithStore
    mean: FloatArray
    directions: FloatArray
    pooled: FloatArray
    is_minority: IntArray

    def of(self, pooled: FloatArray) -> FloatArray:
        """``[N, k]`` watched features of ``[N, D]`` pooled features; the twin of the graph's."""
        return np.asarray((pooled - self.mean) @ self.directions, dtype=np.float32)

    def quantities(self, by_class: bool) -> list[Quantity]:
        """What the file keeps of these rows.

        Args:
            by_class: whether normal images and the minority are told apart.
        """
        of_class = self.is_minority if by_class else np.zeros_like(self.is_minority)
        if by_class and not of_class.any():
            return []
        return [
            Quantity.fit(
                feature_name(at),
                f"direction {at + 1} of the pooled features",
                column.astype(np.float64),
                of_class,
                2 if by_class else 1,
                MARGIN,
            )
            for at, column in enumerate(self.of(self.pooled).T)
        ]

    def in_graph(self) -> GraphFeatures:
        """The part of the exported graph that gives them."""
        from export.graph import WatchedFeatures as GraphFeatures

        return GraphFeatures(self.loaded.backbone.settings.model_dump_json(), self.mean, self.directions)


def watched_features(system: TrainedSystem) -> WatchedFeatures | None:
    """Fit directions on training rows.

    Features are those that members were trained on, from the store. Nothing is watched where no member reads
    pooled features: the graph would compute the deepest layers of a backbone for the watch alone. Nor with
    fewer than 10 normal rows on either side, nor in a student, whose run's rows are its teacher's.

    Raises:
        ModelError: the backbone's weights cannot be had.
    """
    # torch is imported from here on.
    from workflow.run.features import load_backbones

    backbone = _read_backbone(system)
    if backbone is None or not isinstance(system, Run):
        return None
    data = system.data.of_repeat(system.repeats[0])
    minority = data.labels(data.train) == len(data.manifest.class_names) - 1
    n_fitted = max(1, len(np.unique(data.fold_of_row)) // 2)
    is_fitted = ~minority & (data.fold_of_row < n_fitted)
    loaded = load_backbones(system.config, {backbone})[backbone]

    def pooled(chosen: IntArray) -> FloatArray:
        rows = [data.train[at] for at in _spread(chosen).tolist()]
        # Gone since training, features and file, which no export depends on.
        rows = [row for row in rows if row.sha256 in loaded.store or data.file_of(row).exists()]
        loaded.fill(data, rows, system.config.decode, "cpu")
        return loaded.rows(data, rows, system.config.decode).pooled()

    to_fit, normal, rare = (
        pooled(np.flatnonzero(each)) for each in (is_fitted, ~minority & ~is_fitted, minority)
    )
    if min(len(to_fit), len(normal)) < _LEAST_ROWS:
        return None
    mean, directions = principal_directions(to_fit.astype(np.float64), min(DIRECTIONS, len(to_fit) // 2))
    spread = ((normal - mean) @ directions).std(axis=0)
    # A direction along which the other rows do not differ at all tells nothing.
    directions = directions[:, spread > 0.0] / spread[spread > 0.0]
    found = WatchedFeatures(
        loaded,
        mean.astype(np.float32),
        directions.astype(np.float32),
        np.concatenate([normal, rare]),
        np.repeat([0, 1], [len(normal), len(rare)]),
    )
    return found if found.directions.size else None


def watched_of_gate(system: TrainedSystem, watched: WatchedFeatures, gate: GateImages) -> FloatArray:
    """``[N, k]`` watched features of the images that a file is compared on, as training computes features."""
    if not len(system.test.labels):
        return watched.of(pooled_of_pixels(watched.loaded, gate.images))
    decode, rows = system.config.decode, list(gate.rows)
    watched.loaded.fill(system.data, rows, decode, "cpu")
    return watched.of(watched.loaded.rows(system.data, rows, decode).pooled())


def _read_backbone(system: TrainedSystem) -> BackboneSettings | None:
    """The backbone whose pooled features the first of the members reads that read any."""
    for fit, (member, *_) in final_members(system).values():
        if "pooled" in member.needs:
            return fit.member.backbone
    return None


def _spread(positions: IntArray) -> IntArray:
    """At most :data:`_MOST_ROWS` of these positions, evenly spread."""
    if len(positions) <= _MOST_ROWS:
        return positions
    return np.asarray(positions[np.linspace(0, len(positions) - 1, _MOST_ROWS).astype(int)], dtype=np.int64)


def principal_directions(values: FloatArray64, most: int) -> tuple[FloatArray64, FloatArray64]:
    """``[D]`` mean, and ``[D, k]`` orthonormal directions of most variance, those of the largest first.

    Each points where its largest entry is positive, so that the same rows give the same directions.

    Args:
        values: ``[N, D]``.
        most: k at most; fewer where rows have no variance left.
    """
    mean = values.mean(axis=0)
    centred = values - mean
    # By way of the [N, N] products: there are mostly fewer rows than features.
    variance, vectors = np.linalg.eigh(centred @ centred.T)
    kept = np.argsort(-variance)[:most]
    kept = kept[variance[kept] > 1e-9 * max(variance.max(), 1e-30)]
    directions = centred.T @ (vectors[:, kept] / np.sqrt(variance[kept]))
    largest = np.abs(directions).argmax(axis=0)
    return mean, directions * np.sign(directions[largest, np.arange(len(kept))])
