"""A map of images by their backbone features, and the images that lie far from their own class.

Nothing here is fitted for later use: people look at the map, and labels only colour it. So it leaks nothing
that test images and training images appear on it together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts.rows import FloatArray, LabelArray

COMPONENTS = 50
"""Largest number of principal components in which distances are computed."""

TSNE_ROWS = 3000
"""Up to this many rows the plane is t-SNE's. With more it takes too long, and the plane is PCA's."""

NEIGHBOURS = 5
_PERPLEXITY = 30.0
_LEAST_TSNE_ROWS = 10


@dataclass(frozen=True)
class Embedding:
    """Rows in the plane, and how far each lies from its own class.

    Attributes:
        positions: ``[N, 2]``.
        method: ``t-SNE`` or ``PCA``.
        explained: share of the variance, 0…1, in the components that distances are computed in.
        distance: ``[N]`` mean distance to the nearest rows of the same class; NaN in a class of one row.
        ratio: ``[N]`` the same divided by its median over the class; 1 is typical.
        foreign: ``[N]`` share of other classes among the nearest rows, 0…1.
    """

    positions: FloatArray
    method: str
    explained: float
    distance: npt.NDArray[np.float64]
    ratio: npt.NDArray[np.float64]
    foreign: npt.NDArray[np.float64]


def embed(pooled: FloatArray, labels: LabelArray, seed: int) -> Embedding:
    """Map rows to the plane and measure how far each is from its own class.

    Columns are standardised and reduced to at most 50 principal components (the randomised solver of Halko et
    al. 2011, seeded). t-SNE (van der Maaten & Hinton 2008) maps these to the plane, starting from the first
    two components, so that equal input and seed give an equal map.

    Args:
        pooled: ``[N, D]`` pooled backbone features, N at least 3.
        labels: ``[N]`` class index.
        seed: of the solvers.
    """
    from sklearn.decomposition import PCA

    n = len(pooled)
    spread = pooled.std(axis=0, dtype=np.float64)
    centred = pooled - pooled.mean(axis=0, dtype=np.float64)
    # A constant column carries no information; divided by 1 it stays at 0.
    standard = (centred / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    n_components = min(COMPONENTS, n - 1, pooled.shape[1])
    pca = PCA(n_components, svd_solver="randomized", random_state=seed)
    components = pca.fit_transform(standard).astype(np.float32)
    positions, method = _plane(components, seed)
    distance, foreign = _neighbourhoods(components, labels)
    ratio = np.full(n, np.nan)
    for label in np.unique(labels):
        mine = labels == label
        usual = float(np.median(distance[mine]))
        # In a class that is mostly copies the median is 0, and any other row is infinitely far.
        ratio[mine] = distance[mine] / usual if usual > 0 else np.where(distance[mine] > 0, np.inf, 1.0)
    return Embedding(positions, method, float(pca.explained_variance_ratio_.sum()), distance, ratio, foreign)


def _plane(components: FloatArray, seed: int) -> tuple[FloatArray, str]:
    n = len(components)
    if not _LEAST_TSNE_ROWS <= n <= TSNE_ROWS:
        first_two = np.zeros((n, 2), dtype=np.float32)
        first_two[:, : components.shape[1]] = components[:, :2]
        return first_two, "PCA"
    from sklearn.manifold import TSNE

    tsne = TSNE(
        2, perplexity=min(_PERPLEXITY, (n - 1) / 3.0), init="pca", learning_rate="auto", random_state=seed
    )
    return np.asarray(tsne.fit_transform(components), dtype=np.float32), "t-SNE"


def _neighbourhoods(
    components: FloatArray, labels: LabelArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """``[N]`` mean distance to the nearest of the same class, ``[N]`` share of others among the nearest."""
    from sklearn.neighbors import NearestNeighbors

    distance = np.full(len(labels), np.nan)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        k = min(NEIGHBOURS, len(mine) - 1)
        if k > 0:
            # Called without an argument, kneighbors excludes each row from its own neighbours.
            near = NearestNeighbors(n_neighbors=k).fit(components[mine]).kneighbors()[0]
            distance[mine] = near.mean(axis=1)
    # Small data sets have fewer neighbours than that.
    k = min(NEIGHBOURS, len(labels) - 1)
    nearest = NearestNeighbors(n_neighbors=k).fit(components).kneighbors(return_distance=False)
    foreign = (labels[nearest] != labels[:, None]).mean(axis=1)
    return distance, foreign


def farthest(embedding: Embedding, labels: LabelArray, label: int, count: int) -> list[int]:
    """Positions of the rows of a class that lie farthest from it, farthest first; ties in row order."""
    mine = [i for i in np.flatnonzero(labels == label).tolist() if np.isfinite(embedding.distance[i])]
    return sorted(mine, key=lambda i: (-float(embedding.distance[i]), i))[:count]
