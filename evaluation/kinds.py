"""How much of each kind of the minority is found, and what models are worth on kinds they never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.rows import LabelArray
from evaluation.comparison import Predictions, clopper_pearson, compare

FIGURES = {"auroc": "AUROC", "average_precision": "AP", "recall": "recall"}
"""Figures on kinds never seen, and what they are called."""


def recall_by_kind(
    kinds: npt.NDArray[np.str_],
    groups: npt.NDArray[np.int64],
    decisions: Sequence[LabelArray],
    minority: int,
) -> dict[str, list[float]]:
    """Kind → share of its images that were found, with a 95 % interval.

    The interval is Clopper and Pearson's, in which a group counts as one image however many it has: kinds are
    small, and a bootstrap of four images that were all found says that all always will be.

    Args:
        kinds: ``[N]`` kind of each row; empty for rows that have none.
        groups: ``[N]`` group index.
        decisions: R times ``[N]`` decided class index; recalls are means over these repeats.
        minority: its class index.

    Returns:
        Kind → [recall, low, high], kinds in alphabetical order.
    """
    hits = np.mean([decision == minority for decision in decisions], axis=0)
    found = {}
    for kind in sorted(set(kinds.tolist()) - {""}):
        mine = kinds == kind
        recall, trials = float(hits[mine].mean()), len(np.unique(groups[mine]))
        found[kind] = [recall, *clopper_pearson(recall * trials, trials)]
    return found


def figures_never_seen(
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    predictions: Mapping[str, Predictions],
    baseline: str,
    class_names: Sequence[str],
    *,
    seed: int,
    n_replicates: int,
) -> dict[str, dict[str, Any]]:
    """Model → figures on minority images of kinds that nothing which judges them has seen.

    The question is the minority against the rest, also where there are more than two classes.

    Args:
        labels: ``[N]`` class index of the judged rows, each class among them.
        groups: ``[N]`` group index.
        predictions: of each model on these rows.
        baseline: name of the calibrated baseline among them.
        class_names: K names, minority last.
        seed: of the bootstrap.
        n_replicates: of the bootstrap.

    Returns:
        Model → each of :data:`FIGURES` as [value, low, high], and ``minus_baseline`` with the paired
        differences of the same names, likewise.
    """
    minority = len(class_names) - 1
    rows = compare(
        (labels == minority).astype(np.int64),
        groups,
        [{name: _minority_or_not(said, minority) for name, said in predictions.items()}],
        baseline,
        ("rest", class_names[-1]),
        seed=seed,
        n_replicates=n_replicates,
        cross_validated=True,
    )
    return {
        row["name"]: {
            **{figure: [row[figure], *row["intervals"][figure]] for figure in FIGURES},
            "minus_baseline": {figure: list(row["minus_baseline"][figure]) for figure in FIGURES},
        }
        for row in rows
    }


def _minority_or_not(said: Predictions, minority: int) -> Predictions:
    """The same as a statement about two classes."""
    p = said.p[:, minority]
    decision = (said.decision == minority).astype(np.int64)
    return Predictions(said.kind, np.stack([1.0 - p, p], axis=1), decision)
