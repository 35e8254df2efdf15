"""What each member adds to an image's log-odds, by the weights that the file states about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Share:
    """One member's part.

    Attributes:
        member: its name.
        score: raw; higher = more like the minority.
        contribution: what it adds to the log-odds of the minority before calibration, relative to a score
            that is average among training rows; without labels, to the mean of standardised scores.
    """

    member: str
    score: float
    contribution: float


def shares_of(document: Mapping[str, Any], scores: Mapping[str, float]) -> list[Share]:
    """The members' shares, the largest first; empty for a file that does not state its weights.

    Args:
        document: the file's own.
        scores: column of the file → score.
    """
    combination = document.get("ensemble", {}).get("combination", {})
    transform, weights = combination.get("transform", {}), np.asarray(combination.get("weights", ()))
    values = np.array(list(scores.values()))
    mean, std = (np.asarray(transform.get(name, ()), dtype=np.float64) for name in ("mean", "std"))
    if not mean.shape == std.shape == values.shape or weights.shape[:1] != values.shape:
        return []
    to_logits = ((values - mean) / std)[:, None] * weights.reshape(len(values), -1)
    # Of K logits the minority's less the mean of all: only differences between classes matter.
    added = to_logits[:, 0] if to_logits.shape[1] == 1 else to_logits[:, -1] - to_logits.mean(axis=1)
    columns = document.get("ensemble", {}).get("columns", ())
    names = [column["member"] for column in columns] if len(columns) == len(values) else list(scores)
    found: dict[str, Share] = {}
    for name, score, contribution in zip(names, values, added, strict=True):
        # A member of K classes has K columns; their parts add up, and the last is the minority's.
        before = found[name].contribution if name in found else 0.0
        found[name] = Share(name, float(score), before + float(contribution))
    return sorted(found.values(), key=lambda share: -abs(share.contribution))
