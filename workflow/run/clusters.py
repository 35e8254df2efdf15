"""Clusters of the minority, which stand in for kinds where nobody has named any.

Images are grouped by their pooled backbone features, standardised, by k-means. A cluster is not a kind: it
may be a camera or a lighting as well. What is left out cluster by cluster still says whether a model needs to
have seen what it is to find, and wherever such figures are shown they are called clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from contracts.files import digest_of, read_json, write_json
from contracts.rows import FloatArray
from workflow.run.prepared import PreparedData
from workflow.settings.config import RunConfig

FEWEST_IMAGES = 20
"""Images of the minority from which on clusters are made."""

_IMAGES_PER_CLUSTER, _MOST_CLUSTERS = 10, 5
_FILE = "clusters.json"


def read_clusters(config: RunConfig, data: PreparedData) -> Mapping[str, str]:
    """Path of each minority training row → its cluster; empty where none were made of these rows."""
    path = config.folder / _FILE
    if not path.exists():
        return {}
    try:
        saved: dict[str, Any] = read_json(path)
        clusters: dict[str, str] = saved["clusters"]
        key = saved["key"]
    except (ValueError, KeyError, TypeError):  # torn or edited: as good as none
        return {}
    return clusters if key == _key(config, data) else {}


def write_clusters(config: RunConfig, data: PreparedData, pooled: FloatArray) -> None:
    """Cluster the minority's training rows, and keep the result in the run folder.

    Args:
        config: the run.
        data: its rows, at least :data:`FEWEST_IMAGES` of the minority among them.
        pooled: ``[n, D]`` pooled features of the minority's training rows, in their order.
    """
    # scikit-learn takes a second to import, and nobody needs it who only reads.
    from sklearn.cluster import KMeans

    rows = _minority_rows(data)
    n_clusters = min(_MOST_CLUSTERS, len(rows) // _IMAGES_PER_CLUSTER)
    spread = pooled.std(axis=0)
    standardised = (pooled - pooled.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    labels = KMeans(n_clusters, n_init=10, random_state=config.seed).fit_predict(standardised)
    # The largest first, so that a name says something.
    by_size = np.argsort(-np.bincount(labels, minlength=n_clusters), kind="stable")
    name = {int(label): f"cluster {place + 1}" for place, label in enumerate(by_size)}
    clusters = {path: name[int(label)] for path, label in zip(rows, labels, strict=True)}
    write_json(config.folder / _FILE, {"key": _key(config, data), "clusters": clusters})


def _key(config: RunConfig, data: PreparedData) -> str:
    shape = [config.shape_key] if config.shape_key else []
    return digest_of([data.train_digest, config.recipe.backbone.identity(), config.seed, *shape])


def _minority_rows(data: PreparedData) -> list[str]:
    minority = data.manifest.class_names[-1]
    return [row.path for row in data.train if row.label == minority]
