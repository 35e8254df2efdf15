"""What a file keeps of its training rows so that batches can be compared with them: counts, no images.

Of every watched quantity (a picture fact, a direction of the pooled features, a member's out-of-fold score,
the ensemble's log-odds) the file holds how many training images lie between some quantiles, of normal images
and of the minority apart: a changed share of the minority is then no change of the images themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError, UsageError
from export.scoring.plan import ESTIMATED

METADATA_KEY = "watch"
"""Key within the file's own document."""

VERSION = 2
"""2 added directions of the pooled features; a document without them reads as one of version 1."""

_READABLE = (1, VERSION)

LOG_ODDS = "log_odds"
"""Name of the quantity that is the ensemble's answer, at the class shares of training."""

_FEATURE = "feature_"

LEAST_MINORITY = 20
"""Labelled minority images from which on the two classes are told apart."""

_LEVELS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_MINORITY_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)

FINEST = 0.125
"""Width of a bin of log-odds, fine enough that estimates by bins are those by images."""

MOST_LOG_ODDS = 14.0
"""Beyond it, either way, all log-odds count as this much; float32 probabilities say no more."""

N_FINE = int(2 * MOST_LOG_ODDS / FINEST)

IntArray = npt.NDArray[np.int64]
FloatArray64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """One watched number per image.

    Attributes:
        name: a key of :data:`imagedata.decoding.facts.TITLES`, :func:`feature_name`, ``score_<member>`` or
            :data:`LOG_ODDS`.
        title: the same for people.
        edges: ``[E]`` ascending; the first lies below, the last above all training values.
        counts: ``[C, E + 1]`` training images in each bin; C is 2 (normal, minority) or 1 (all together).
            Bin j holds values above ``edges[j - 1]`` and up to ``edges[j]``.
        margin: largest distance of two distribution functions, 0…1, that is no change: of scores, by how much
            fits on different folds differ.
    """

    name: str
    title: str
    edges: FloatArray64
    counts: IntArray
    margin: float

    @classmethod
    def fit(
        cls, name: str, title: str, values: FloatArray64, of_class: IntArray, n_classes: int, margin: float
    ) -> Quantity:
        """Count training values.

        Args:
            name: see the class.
            title: see the class.
            values: ``[N]``, finite.
            of_class: ``[N]`` 0 or 1; all 0 where ``n_classes`` is 1.
            n_classes: C.
            margin: see the class.
        """
        levels = [np.quantile(values, _LEVELS, method="inverted_cdf")]
        if n_classes == 2:
            levels.append(np.quantile(values[of_class == 1], _MINORITY_LEVELS, method="inverted_cdf"))
        low, high = float(values.min()), float(values.max())
        beside = 1e-6 * (1.0 + max(abs(low), abs(high)))
        inner = np.unique(np.concatenate(levels))
        edges = np.unique(np.concatenate([[low - beside], inner[inner < high], [high + beside]]))
        counts = np.stack([bin_counts(edges, values[of_class == k]) for k in range(n_classes)])
        return cls(name, title, edges, counts, margin)

    def to_json(self) -> dict[str, Any]:
        """JSON document; floats round-trip."""
        return {
            "name": self.name,
            "title": self.title,
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
            "margin": self.margin,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Quantity:
        """Rebuild from :meth:`to_json`."""
        return cls(
            str(document["name"]),
            str(document["title"]),
            np.asarray(document["edges"], dtype=np.float64),
            np.asarray(document["counts"], dtype=np.int64),
            float(document["margin"]),
        )


@dataclass(frozen=True)
class WatchReference:
    """All that a file keeps of its training rows for the watch.

    Attributes:
        quantities: what is watched.
        normal: title of what is no minority, for people.
        minority: its name.
        independent: ``[C]`` groups over images of each class, 0…1: images of one group tell less than as many
            independent ones.
        log_odds: ``[F, 2, N_FINE]`` training images by cross-fitted log-odds, for each fold, normal and
            minority; None where the share of the minority cannot be estimated, and ``no_share`` says why.
        no_share: why there is no estimate; empty where there is one.
    """

    quantities: tuple[Quantity, ...]
    normal: str
    minority: str
    independent: tuple[float, ...]
    log_odds: IntArray | None
    no_share: str = ""

    @property
    def by_class(self) -> bool:
        """Whether normal images and the minority are told apart."""
        return len(self.independent) == 2

    @property
    def n_features(self) -> int:
        """Directions of the pooled features that are watched; 0 in files of earlier versions."""
        return sum(is_feature(each.name) for each in self.quantities)

    def to_json(self) -> dict[str, Any]:
        """As the file's document keeps it."""
        return {
            "version": VERSION,
            "quantities": [each.to_json() for each in self.quantities],
            "normal": self.normal,
            "minority": self.minority,
            "independent": list(self.independent),
            "log_odds": None if self.log_odds is None else self.log_odds.tolist(),
            "no_share": self.no_share,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> WatchReference:
        """Rebuild from :meth:`to_json`.

        Raises:
            ModelError: it is damaged, or of another version.
        """
        try:
            if document["version"] not in _READABLE:
                raise ModelError(
                    f"watch: version {document['version']}, but at most {VERSION} is read here. Upgrade "
                    "outnumbered, or export the file again with this version."
                )
            fine = document["log_odds"]
            return cls(
                tuple(map(Quantity.from_json, document["quantities"])),
                str(document["normal"]),
                str(document["minority"]),
                tuple(map(float, document["independent"])),
                None if fine is None else np.asarray(fine, dtype=np.int64),
                str(document["no_share"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"watch: what the file keeps of training is damaged ({error}).") from error


def reference_of(document: Mapping[str, Any]) -> WatchReference | None:
    """What a model file's document says of training; None for files without it.

    Raises:
        ModelError: it is damaged.
    """
    kept = document.get(METADATA_KEY)
    return None if kept is None else WatchReference.from_json(kept)


def check_share_can_be_estimated(path: Path, document: Mapping[str, Any]) -> None:
    """Refuse ``--prior estimated`` for a file that cannot say, before hours of scoring.

    Args:
        path: of the file, for the message.
        document: of the file.

    Raises:
        UsageError: it keeps nothing of training, or too little.
    """
    reference = reference_of(document)
    if reference is None:
        raise UsageError(
            f"--prior {ESTIMATED}: {path} keeps nothing of its training that a share could be estimated "
            "from. "
            "Give 'ensemble' or 'export' again, or a number."
        )
    if reference.log_odds is None:
        raise UsageError(f"--prior {ESTIMATED}: {path}: {reference.no_share} Give a number.")


def feature_name(at: int) -> str:
    """Of the quantity that is a column of the output ``watched_features``, counted from 0."""
    return f"{_FEATURE}{at + 1}"


def is_feature(name: str) -> bool:
    """Whether a quantity of this name is one of :func:`feature_name`."""
    return name.startswith(_FEATURE)


def bin_counts(edges: FloatArray64, values: npt.ArrayLike) -> IntArray:
    """``[E + 1]`` values up to the first edge, up to the second …, and above the last."""
    bins = np.searchsorted(edges, np.asarray(values, dtype=np.float64), side="left")
    return np.bincount(bins, minlength=len(edges) + 1).astype(np.int64)


def fine_counts(log_odds: npt.ArrayLike) -> IntArray:
    """``[N_FINE]`` values in each fine bin of log-odds."""
    clipped = np.clip(np.asarray(log_odds, dtype=np.float64), -MOST_LOG_ODDS, MOST_LOG_ODDS - 1e-9)
    bins = np.floor((clipped + MOST_LOG_ODDS) / FINEST).astype(np.int64)
    return np.bincount(bins, minlength=N_FINE).astype(np.int64)


def fine_centres() -> FloatArray64:
    """``[N_FINE]`` log-odds in the middle of each fine bin."""
    return np.asarray(-MOST_LOG_ODDS + FINEST * (np.arange(N_FINE) + 0.5), dtype=np.float64)


def largest_fold_distance(values: FloatArray64, folds: Sequence[int] | IntArray) -> float:
    """How far the distribution of one fold's values lies from that of the others, at most: 0…1.

    Scores of different fits differ a little even on the same images, and so do those of the fit on all rows,
    which scores what comes in. That much is no change of the images.
    """
    folds = np.asarray(folds)
    points = np.sort(values)
    distances = [0.0]
    for fold in np.unique(folds):
        mine, others = np.sort(values[folds == fold]), np.sort(values[folds != fold])
        if len(mine) and len(others):
            shares = [np.searchsorted(each, points, "right") / len(each) for each in (mine, others)]
            distances.append(float(np.abs(shares[0] - shares[1]).max()))
    return max(distances)
