"""How much the answer changes under changes of an image that no eye sees.

A bounded sample of the images that the parity gate compares on: of the test set, or of training images that
are mirrored or upside down where every image was needed for training. Each is scored by the final members as
it is and after each of :data:`workflow.ensembling.perturbations.PERTURBATIONS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.rows import FloatArray, ImageArray, LabelArray
from ensemble.fitted import FittedEnsemble
from evaluation.rows import class_probabilities
from features.rows import read_pixels
from imagedata.manifest_row import ManifestRow
from reporting.content import Moved, Stability
from reporting.terminal import progress_bar
from workflow.ensembling.gate_images import gate_images, member_scorer, turned
from workflow.ensembling.perturbations import PERTURBATIONS
from workflow.run.prepared import seed_of
from workflow.run.state import Run

MOST_IMAGES = 64
MOST_UNLABELLED = 32
"""Images where no minority image is labelled: one class is enough to say what a step of p_normal does."""
_MOST_MOVED = 6
Float64Array = npt.NDArray[np.float64]


def measure_stability(run: Run) -> dict[str, Any]:
    """Score a sample of images before and after each perturbation.

    Args:
        run: its ensemble is fitted.

    Returns:
        ``{images, of, quantity, changes, moved}``. ``quantity`` is ``probability``, or ``p_normal`` where no
        minority image is labelled. ``changes`` has for each perturbation ``{name, title, changed, largest,
        median}``: how many decisions change, and the largest and median absolute change of the quantity, of
        K > 2 probabilities that of the class that moves most. ``moved`` are the images that moved most:
        ``{path, name, before, after, changed}``, with the minority's probability or p_normal.
    """
    fitted, scorer = run.fitted, member_scorer(run)
    gate = gate_images(run, MOST_IMAGES if fitted.has_probability else MOST_UNLABELLED, scorer)
    before = _Answers(fitted, gate.member_scores)
    changes: list[dict[str, Any]] = []
    moved: list[tuple[float, dict[str, Any]]] = []
    with progress_bar("images changed as no eye sees", len(PERTURBATIONS) * len(gate.rows)) as bar:
        for name, perturbation in PERTURBATIONS.items():
            after = _Answers(fitted, scorer(_perturbed(run, name, gate.rows, gate.images)))
            bar.advance(len(gate.rows))
            change, is_changed = after.change_from(before), after.decision != before.decision
            changes.append(
                {
                    "name": name,
                    "title": perturbation.title,
                    "changed": int(is_changed.sum()),
                    "largest": float(change.max()),
                    "median": float(np.median(change)),
                }
            )
            moved += [
                (
                    float(change[i]),
                    {
                        "path": gate.rows[i].path,
                        "name": name,
                        "before": float(before.shown[i]),
                        "after": float(after.shown[i]),
                        "changed": bool(is_changed[i]),
                    },
                )
                for i in np.argsort(-change, kind="stable")[:_MOST_MOVED]
            ]
    return {
        "images": len(gate.rows),
        "of": gate.what,
        "quantity": "probability" if fitted.has_probability else "p_normal",
        "changes": changes,
        "moved": _each_once(moved),
    }


def stability_of(run: Run, pictures: bool) -> Stability | None:
    """The stability of a run's ensemble with pictures, for a page; None where it is of other settings.

    Raises:
        DataError: an image to be shown has gone or changed since training.
    """
    document = run.stability
    if document is None:
        return None
    row_of = {row.path: row for row in [*run.data.train, *run.data.test]}
    shown = []
    for each in document["moved"] if pictures else []:
        rows = [row_of[each["path"]]]
        images = read_pixels([run.data.file_of(rows[0])], run.config.decode)
        images = turned(images, document["of"])
        after = _perturbed(run, each["name"], rows, images)
        title = PERTURBATIONS[each["name"]].title
        shown.append(Moved(each["path"], title, each["before"], each["after"], images[0], after[0]))
    return Stability(document, shown)


class _Answers:
    """What the ensemble says of N images.

    Attributes:
        values: ``[N, K]`` probabilities, or ``[N, 1]`` p_normal where there are none.
        shown: ``[N]`` the minority's probability, or p_normal.
        decision: ``[N]`` class index.
    """

    def __init__(self, fitted: FittedEnsemble, scores: FloatArray) -> None:
        self.values: Float64Array = (
            class_probabilities(fitted.predict(scores))
            if fitted.has_probability
            else fitted.p_normal(scores)[:, None]
        )
        self.shown: Float64Array = self.values[:, -1]
        self.decision: LabelArray = fitted.decide(scores)

    def change_from(self, other: _Answers) -> Float64Array:
        """``[N]`` absolute change, of several values the largest."""
        change: Float64Array = np.abs(self.values - other.values).max(axis=1)
        return change


def _perturbed(run: Run, name: str, rows: Sequence[ManifestRow], images: ImageArray) -> ImageArray:
    """The images changed in one way; an image's noise depends on itself and the run's seed alone."""
    change = PERTURBATIONS[name].change
    return np.stack(
        [
            change(image, seed_of(run.config.seed, name, row.sha256))
            for row, image in zip(rows, images, strict=True)
        ]
    )


def _each_once(moved: list[tuple[float, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The images that moved most, each with the perturbation that moves it most."""
    found: dict[str, dict[str, Any]] = {}
    for _, each in sorted(moved, key=lambda pair: -pair[0]):
        found.setdefault(each["path"], each)
    return list(found.values())[:_MOST_MOVED]
