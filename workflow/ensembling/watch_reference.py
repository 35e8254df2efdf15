"""What an exported file keeps of its training rows for the watch over what comes in.

Everything is fitted on training rows: picture facts of a sample of them, directions of their pooled features,
members' out-of-fold scores, and cross-fitted log-odds, each by models that had not seen the row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from contracts.errors import ImageError, OutnumberedError
from contracts.scores import ScoreTable
from ensemble.out_of_fold import out_of_fold_probabilities
from export.scoring.watch.drift import MARGIN
from export.scoring.watch.reference import (
    LEAST_MINORITY,
    LOG_ODDS,
    FloatArray64,
    Quantity,
    WatchReference,
    fine_counts,
    largest_fold_distance,
)
from imagedata.decoding.decode import decode_bytes, read_image_bytes
from imagedata.decoding.facts import TITLES, picture_facts
from imagedata.manifest_row import ManifestRow
from reporting.terminal import progress_bar
from workflow.ensembling.trained_system import TrainedSystem
from workflow.ensembling.watched_features import WatchedFeatures
from workflow.run.state import Run

_MOST_PICTURES = 1000
"""Images of each class whose facts are taken, spread over the rows; decoding them takes seconds."""


def watch_reference(
    run: Run | TrainedSystem, watched: WatchedFeatures | None = None
) -> WatchReference | None:
    """The reference of a run's ensemble, for its exported file.

    Args:
        run: its ensemble is fitted.
        watched: the features that the file's graph gives for the watch; None where it gives none.

    Returns:
        None for a student: the out-of-fold scores of its run are not kept where this could read them.
    """
    if not isinstance(run, Run):
        return None
    oof, fitted = run.oof, run.fitted
    is_minority = (oof.labels == fitted.n_classes - 1).astype(np.int64)
    n_minority = int(is_minority.sum())
    by_class = n_minority >= LEAST_MINORITY
    n_classes = 2 if by_class else 1
    of_class = is_minority if by_class else np.zeros(len(is_minority), dtype=np.int64)
    log_odds = _log_odds(oof, fitted.method) if fitted.has_probability else None
    quantities = [
        *_of_pictures(run, n_classes),
        *([] if watched is None else watched.quantities(by_class)),
        *(
            _of_scores(f"score_{column.name}", f"score of {column.name}", oof.scores[:, at], of_class, oof)
            for at, column in enumerate(fitted.columns)
        ),
    ]
    if log_odds is not None:
        title = f"log-odds of {fitted.class_names[-1]}"
        quantities.append(_of_scores(LOG_ODDS, title, log_odds, of_class, oof))
    no_share = _no_share(fitted.n_classes, n_minority, log_odds is not None, fitted.has_probability)
    folds = np.unique(oof.fold_of_row)
    return WatchReference(
        tuple(quantities),
        fitted.class_names[0] if fitted.n_classes == 2 else "the other classes",
        fitted.class_names[-1],
        tuple(_independent(oof.groups[of_class == k]) for k in range(n_classes)),
        None
        if no_share or log_odds is None
        else np.stack(
            [
                [fine_counts(log_odds[(oof.fold_of_row == fold) & (is_minority == k)]) for k in (0, 1)]
                for fold in folds
            ]
        ),
        no_share,
    )


def _no_share(n_classes: int, n_minority: int, is_cross_fitted: bool, has_probability: bool) -> str:
    """Why a file cannot estimate the share of the minority; empty where it can."""
    if not has_probability:
        return "no minority image was labelled when the file was made."
    if n_classes > 2:
        return f"the file has {n_classes} classes, and shares are estimated for two."
    if n_minority < LEAST_MINORITY or not is_cross_fitted:
        return f"it rests on {n_minority} labelled minority images; {LEAST_MINORITY} are needed."
    return ""


def _log_odds(oof: ScoreTable, method: str) -> FloatArray64 | None:
    """``[N]`` cross-fitted log-odds of the minority; None where a fold's others have too few to fit on."""
    try:
        p = out_of_fold_probabilities(oof, method)
    except OutnumberedError:  # with one or two minority images there is a fold without any
        return None
    p = np.clip(p, 2.0**-24, 1.0)
    return np.asarray(np.log(p[:, -1]) - np.log(p[:, :-1].sum(axis=1)), dtype=np.float64)


def _of_scores(
    name: str, title: str, values: npt.NDArray[np.floating], of_class: npt.NDArray[np.int64], oof: ScoreTable
) -> Quantity:
    """A score by fold fits, with the distance between folds as what is no change."""
    as_double = np.asarray(values, dtype=np.float64)
    normal = of_class == 0
    margin = max(MARGIN, largest_fold_distance(as_double[normal], oof.fold_of_row[normal]))
    n_classes = int(of_class.max(initial=0)) + 1
    return Quantity.fit(name, title, as_double, of_class, n_classes, margin)


def _of_pictures(run: Run, n_classes: int) -> list[Quantity]:
    """Facts of training pictures, as many of each class as there are, up to a limit."""
    data = run.data
    labels = data.labels(data.train)
    minority = labels == len(data.manifest.class_names) - 1
    chosen = [_spread(data.train, np.flatnonzero(minority == is_minority)) for is_minority in (False, True)]
    facts: list[npt.NDArray[np.float32]] = []
    of_class: list[int] = []
    with progress_bar("facts of training pictures", sum(map(len, chosen))) as bar:
        for label, rows in enumerate(chosen):
            for row in rows:
                bar.advance()
                try:
                    contents = read_image_bytes(data.file_of(row))
                    facts.append(picture_facts(decode_bytes(contents, run.config.decode), len(contents)))
                except ImageError:  # gone since training, which no export depends on
                    continue
                of_class.append(label if n_classes == 2 else 0)
    classes = np.array(of_class, dtype=np.int64)
    if not facts or len(np.unique(classes)) < n_classes:
        return []
    columns = np.stack(facts).astype(np.float64).T
    return [
        Quantity.fit(name, title, values, classes, n_classes, MARGIN)
        for (name, title), values in zip(TITLES.items(), columns, strict=True)
    ]


def _spread(rows: Sequence[ManifestRow], positions: npt.NDArray[np.int64]) -> list[ManifestRow]:
    """At most :data:`_MOST_PICTURES` of these rows, evenly spread."""
    if len(positions) > _MOST_PICTURES:
        positions = positions[np.linspace(0, len(positions) - 1, _MOST_PICTURES).astype(int)]
    return [rows[at] for at in positions.tolist()]


def _independent(groups: npt.NDArray[np.int64]) -> float:
    """Groups over images."""
    return len(np.unique(groups)) / max(len(groups), 1)
