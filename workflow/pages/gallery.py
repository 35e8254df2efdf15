"""Pictures for the report: the most confident errors and hits, with maps of the evidence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluation.examples import PICTURES, confident_examples
from evaluation.rows import class_probabilities
from features.rows import read_pixels
from reporting.content import Decided, Gallery, Picture
from workflow.ensembling.compared_run import ComparedRun
from workflow.ensembling.first_look import choose_first_look
from workflow.ensembling.measuring import ENSEMBLE_ROW
from workflow.pages.maps import maps_of


def galleries(run: ComparedRun) -> tuple[list[Gallery], str]:
    """Choose pictures by the ensemble's probabilities.

    Returns:
        Four galleries, without a test set a fifth, and where their maps come from; an empty text where no
        member has a map.

    Raises:
        DataError: an image has gone or changed since training.
    """
    ensemble, labels, names = run.fitted_rows[ENSEMBLE_ROW], run.judged.labels, run.judged.class_names
    p = class_probabilities(ensemble.predict(run.judged.scores))
    decision = ensemble.decide(run.judged.scores)
    chosen = confident_examples(p, decision, labels)
    if run.measured == "cross_validation":
        position_of = {path: i for i, path in enumerate(run.judged.row_ids.tolist())}
        first = choose_first_look(run, ensemble, run.judged)[:PICTURES]
        chosen["worth a look"] = np.array([position_of[each.path] for each in first], dtype=np.int64)
    # An image may be in several galleries; it is read and mapped once.
    rows = np.unique(np.concatenate(list(chosen.values())))
    pixels = read_pixels([run.data.file_of(run.data.judged[i]) for i in rows], run.config.decode)
    maps, source = maps_of(run, [run.data.judged[i] for i in rows], pixels)
    place_of = {int(row): place for place, row in enumerate(rows)}
    words = _words(names[-1])
    shown = []
    for kind, positions in chosen.items():
        pictures = [
            Picture(
                path=str(run.judged.row_ids[i]),
                probability=float(p[i, -1]),
                pixels=pixels[place_of[int(i)]],
                heat=None if maps is None else maps[place_of[int(i)]],
                # Of two classes the minority's probability says it all.
                decided=_decided(p[i], int(decision[i]), int(labels[i]), names) if len(names) > 2 else None,
            )
            for i in positions
        ]
        shown.append(Gallery(*words[kind], pictures))
    return shown, source


def _words(minority: str) -> dict[str, tuple[str, str]]:
    """Kind of :func:`evaluation.examples.confident_examples` → title and sentence of its gallery."""
    return {
        "false alarms": (
            "Most confident false alarms",
            f"Not labelled “{minority}”, but given the highest probabilities of it.",
        ),
        "wrong": (
            "Most confident errors",
            "Decided as another class than their label says, with the highest probabilities of that class.",
        ),
        "missed": (
            f"Most confident misses: {minority}",
            f"Labelled “{minority}” and decided otherwise, with the lowest probabilities of it.",
        ),
        "found": (
            f"Most confident hits: {minority}",
            f"Correctly decided as “{minority}”, with the highest probabilities.",
        ),
        "worth a look": (
            "Worth a look",
            f"Not labelled “{minority}”, but most like it by models that did not see them, whatever was "
            "decided; near copies once, and not all of one kind. Labels that are wrong are found here.",
        ),
        "true negatives": (
            "Most confident true negatives",
            f"Correctly not decided as “{minority}”, with the lowest probabilities of it.",
        ),
        "right": (
            "Most confident correct decisions, one of each class",
            "Correctly decided, with the highest probability.",
        ),
    }


def _decided(p: npt.NDArray[np.float64], decision: int, label: int, class_names: tuple[str, ...]) -> Decided:
    return Decided(class_names[decision], float(p[decision]), class_names[label], float(p[label]))
