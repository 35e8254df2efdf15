"""Recall by kind of the minority, and figures on kinds never seen, for every row of the results table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from contracts.errors import DataError
from contracts.scores import ScoreTable
from ensemble.nested import fitted_without
from evaluation.comparison import Predictions
from evaluation.kinds import figures_never_seen, recall_by_kind
from workflow.ensembling.measuring import BASELINE_ROW, Repeat, fit_rows, predictions_of
from workflow.run.state import Run


def add_kinds(run: Run, repeats: Sequence[Repeat], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Add what is known by kind to the rows of a results table.

    A row gets ``recall_by_kind``, kind → ``{"seen": [recall, low, high], "never_seen": ...}`` with what was
    measured of the two, and ``never_seen``, the figures of :func:`evaluation.kinds.figures_never_seen`. Where
    kinds are not named, clusters of the training images stand in for them and ``kinds_are_named`` is False.
    Nothing is added where the minority has no known kinds.

    Args:
        run: whose table.
        repeats: what it was measured on.
        rows: changed in place.

    Returns:
        The document's ``kinds``: ``{"kinds": {images: {kind: count}, left_out: [kind], sentence}}``, or
        nothing.

    Raises:
        ModelError: as :func:`workflow.ensembling.measuring.fit_rows`.
    """
    if not run.kinds.images:
        return {}
    of_row: dict[str, dict[str, dict[str, Any]]] = {row["name"]: {} for row in rows}
    judged = repeats[0][1]
    kinds = _kinds_of_judged(run, judged)
    predictions = [predictions_of(run.config, *repeat) for repeat in repeats]
    for name, by_kind in of_row.items():
        _add_recalls(by_kind, "seen", kinds, judged, [each[name] for each in predictions])
    unseen = _never_seen(run)
    if isinstance(unseen, str):
        sentence, left_out = unseen, []
    else:
        table, said = unseen
        kinds = _kinds_of_judged(run, table)
        left_out = sorted(set(kinds.tolist()) - {""})
        sentence = _sentence(run, table)
        figures = figures_never_seen(
            table.labels,
            table.groups,
            said,
            BASELINE_ROW,
            table.class_names,
            seed=run.config.seed,
            n_replicates=run.config.recipe.bootstrap,
        )
        for row in rows:
            row["never_seen"] = figures[row["name"]]
            _add_recalls(of_row[row["name"]], "never_seen", kinds, table, [said[row["name"]]])
    for row in rows:
        row["recall_by_kind"], row["kinds_are_named"] = of_row[row["name"]], run.kinds.are_named
    return {"kinds": {"images": dict(run.kinds.images), "left_out": left_out, "sentence": sentence}}


def _kinds_of_judged(run: Run, judged: ScoreTable) -> np.ndarray:
    """``[N]`` kind of each judged row; empty for the rest."""
    return np.array([run.kinds.of_path.get(path, "") for path in judged.row_ids.tolist()], dtype=np.str_)


def _add_recalls(
    by_kind: dict[str, dict[str, Any]],
    how: str,
    kinds: np.ndarray,
    table: ScoreTable,
    said: Sequence[Predictions],
) -> None:
    minority = len(table.class_names) - 1
    for kind, recall in recall_by_kind(kinds, table.groups, [p.decision for p in said], minority).items():
        by_kind.setdefault(kind, {})[how] = recall


def _never_seen(run: Run) -> tuple[ScoreTable, dict[str, Predictions]] | str:
    """The rows judged without their kind and what each row of the table says of them, or why there are none.

    Stacker, calibrator and threshold of a fold are fitted on out-of-fold scores of the rows that the fold may
    learn from, so they have seen neither the kind nor the fold's majority.
    """
    folds = run.kinds.folds
    if folds is None:
        return run.kinds.sentence
    if run.without_kinds is None:
        again = run.config.options.command("train-all")
        return f"Kinds never seen are not measured yet: {again} adds the fits that leave out a kind."
    if run.unseen is None:
        collapsed = {fit.label: result.collapsed for fit, result in run.without_kinds.items()}
        label = next(
            label for label, why in collapsed.items() if why and label.partition(",")[0] not in run.left_out
        )
        return f"Kinds never seen are not measured: {label}: {collapsed[label]}"
    oof, _ = run.tables_of([0])
    table = run.unseen.judged
    learns = {fold: np.isin(oof.row_ids, ids) for fold, ids in run.unseen.learns.items()}
    try:
        fitted = fitted_without(oof, learns, table.fold_of_row, partial(fit_rows, run))
    except DataError as error:
        return f"Kinds never seen are not measured: {error}"
    return table, predictions_of(run.config, fitted, table)


def _sentence(run: Run, table: ScoreTable) -> str:
    """On which images the figures on kinds never seen stand."""
    folds = run.kinds.folds
    assert folds is not None
    minority = len(table.class_names) - 1
    n_minority, n_rest = int((table.labels == minority).sum()), int((table.labels != minority).sum())
    missing = int(folds.is_minority.sum()) - n_minority
    which = "1 image is" if missing == 1 else f"{missing} images are"
    more = (
        f" {which} not judged so: of no known kind, of a kind with too few images or beyond the largest, or "
        "in a group with images among those learnt from."
        if missing
        else ""
    )
    what, one = ("kinds", "kind") if run.kinds.are_named else ("clusters (not named kinds)", "cluster")
    return (
        f"{what.capitalize()} never seen: {n_minority} images of {len(folds.kinds)} {one}s and {n_rest} "
        "others of the training set. Members, stacker, calibrator and threshold that judge an image were "
        f"fitted without its {one} and without the others of its fold.{more}"
    )
