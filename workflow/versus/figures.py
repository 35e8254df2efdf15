"""Figures of both files on the images whose label is known, and the paired difference between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.text import number_of
from workflow.versus.changes import Pair
from workflow.versus.scoring import Said

COMPARED = ("auroc", "average_precision", "brier", "macro_auroc", "macro_average_precision")
"""Metrics that are compared, of those that there are for the number of classes."""

_OLD, _NEW = "old", "new"
_FEW = 10
"""Below so many labelled images of a class, intervals of a bootstrap are too narrow to be leant on."""


def figures_of(pair: Pair, seed: int = 0) -> dict[str, Any] | None:
    """Figures and errors on the labelled images; None where no label is known.

    Probabilities are shifted to the class shares of these images first, so that the Brier score judges the
    calibration and not how far two priors differ. Decisions are those of the files.

    Returns:
        ``{images: {class: count}, metrics, errors, missing, sentences}``: ``metrics`` maps the name of each
        metric to ``{title, higher_is_better, old, new, difference: [estimate, low, high]}`` and is empty
        where it cannot be computed, for the reason in ``missing``.
    """
    places = [place for place, image in enumerate(pair.images) if image.label]
    if not places:
        return None
    classes: list[str] = list(pair.old.document["classes"])
    labels = np.array([classes.index(pair.images[place].label) for place in places], dtype=np.int64)
    at = pair.places[places]
    counts = np.bincount(labels, minlength=len(classes))
    missing = _missing(pair, classes, counts)
    return {
        "images": dict(zip(classes, counts.tolist(), strict=True)),
        "metrics": {} if missing else _metrics(pair, labels, at, places, classes, seed),
        "errors": _errors(pair, labels, at, classes),
        "missing": missing,
        "sentences": [] if missing else _cautions(classes, counts),
    }


def _missing(pair: Pair, classes: list[str], counts: npt.NDArray[np.int64]) -> str | None:
    """Why no metric can be computed, in a sentence."""
    for said, when in ((pair.old, _OLD), (pair.new, _NEW)):
        if not said.has_probability:
            return (
                f"No figures: the {when} file gives no probability, because no minority image was labelled "
                "when it was made."
            )
    empty = [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]
    if empty:
        return f"No figures: no image is labelled {empty[0]}. Add images of it."
    return None


def _metrics(
    pair: Pair,
    labels: npt.NDArray[np.int64],
    at: npt.NDArray[np.int64],
    places: list[int],
    classes: list[str],
    seed: int,
) -> dict[str, dict[str, Any]]:
    # They need SciPy, which an installation that only scores does not have.
    from evaluation.comparison import Predictions, compare
    from evaluation.metrics import METRICS

    shares = np.bincount(labels, minlength=len(classes)) / len(labels)
    predictions = {
        name: Predictions(
            name,
            _at_shares(said, at, shares),
            np.array([classes.index(str(said.decision[i])) for i in at.tolist()], dtype=np.int64),
        )
        for name, said in ((_OLD, pair.old), (_NEW, pair.new))
    }
    # An image without a group is a group of its own.
    names = [pair.images[place].group or f"\0{place}" for place in places]
    groups = np.unique(names, return_inverse=True)[1].astype(np.int64)
    rows = {row["name"]: row for row in compare(labels, groups, [predictions], _OLD, classes, seed=seed)}
    return {
        name: {
            "title": METRICS[name].title,
            "higher_is_better": METRICS[name].higher_is_better,
            "old": rows[_OLD][name],
            "new": rows[_NEW][name],
            "difference": rows[_NEW]["minus_baseline"][name],
        }
        for name in COMPARED
        if name in rows[_NEW]["minus_baseline"]
    }


def _at_shares(
    said: Said, at: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """``[n, K]`` probabilities at other class shares: p'_k is proportional to p_k * shares_k / prior_k."""
    prior = np.atleast_1d(np.asarray(said.document["prior"], dtype=np.float64))
    own = np.array([1.0 - prior[0], prior[0]]) if len(prior) == 1 else prior
    assert said.p_classes is not None  # or there were no figures
    shifted: npt.NDArray[np.float64] = said.p_classes[at] * (shares / own)
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float64)


def _errors(
    pair: Pair, labels: npt.NDArray[np.int64], at: npt.NDArray[np.int64], classes: list[str]
) -> list[dict[str, Any]]:
    """Misses and false alarms of two classes, or wrong decisions of each of more, before and after."""
    wrong = {
        name: np.array(
            [
                said.decision[i] != classes[label]
                for i, label in zip(at.tolist(), labels.tolist(), strict=True)
            ]
        )
        for name, said in ((_OLD, pair.old), (_NEW, pair.new))
    }
    titles = ["false alarms", "misses"] if len(classes) == 2 else [f"wrong among {name}" for name in classes]
    found = []
    for label, title in reversed(list(enumerate(titles))):
        before, after = (wrong[name][labels == label] for name in (_OLD, _NEW))
        found.append(
            {
                "what": title,
                "images": len(before),
                "old": int(before.sum()),
                "new": int(after.sum()),
                "fixed": int((before & ~after).sum()),
                "added": int((~before & after).sum()),
            }
        )
    return found


def _cautions(classes: list[str], counts: npt.NDArray[np.int64]) -> list[str]:
    few = [
        f"{number_of(count, 'labelled image')} of {name}"
        for name, count in zip(classes, counts.tolist(), strict=True)
        if count < _FEW
    ]
    return [f"Intervals are too narrow: there are only {' and '.join(few)}."] if few else []
