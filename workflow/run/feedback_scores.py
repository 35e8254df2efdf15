"""Members' scores of feedback images, and banks that take such images in; no member is retrained.

How the stacker's rows grow. A training row's score comes from a member that was fitted without the row's
fold. A feedback image was in no fold: its score comes from the *final* member, the one that is shipped,
which has not seen it either. So both are scores of rows that the member did not learn from, and one table
holds them. The stacker is cross-fitted over folds, so feedback images get folds too, by a hash of their
group. Their scores depend on no fold, so any assignment is valid.

A member with a bank takes in the normal images (:class:`contracts.member.GrowingMember`), and a bank that
holds an image scores it too low. So the stacker never reads a score from a bank that holds the row: the
normal images of one fold are scored by the final bank grown by those of the *other* folds. The shipped bank,
grown by all of them, will score the next image of their kind like that. If all lie in one fold, the bank
that scores them has not grown at all. Missed images enter no bank and are scored by the shipped one.

The grown bank scores the test set again; its images are the same, and nothing was fitted on them.
Known limit: out-of-fold scores of the training rows remain those of banks that did not grow.
"""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.files import Arrays, digest_of, read_arrays, write_arrays
from contracts.member import GrowingMember, Member
from contracts.rows import FloatArray, ImageRows
from ensemble.fitted import FittedEnsemble
from features.devices import pick_device
from imagedata.views import ViewsAtScoring
from reporting.terminal import note, progress_bar
from workflow.run.copies.views import views_to_score
from workflow.run.feedback import FeedbackImages, folds_of_feedback
from workflow.run.fits import FINAL, Fit, FitResult
from workflow.run.prepared import PreparedData
from workflow.settings.config import RunConfig
from workflow.settings.registry import build_member

# Raised when the same images give other scores or other grown members.
_VERSION = 1
_STATE = "state/"


def with_feedback(
    config: RunConfig, data: PreparedData, results: dict[Fit, FitResult]
) -> dict[Fit, FitResult]:
    """Results as an update leaves them: final fits with scores of the feedback images, grown if they can.

    What is missing is computed, in seconds, and stored beside the fits' own results, which stay as they
    were trained.

    Args:
        config: the run.
        data: its rows, with the feedback images.
        results: cached results of finished fits.

    Raises:
        DataError: the copy of a feedback image is gone, and so are its features.
    """
    if not data.added:
        return results
    finals = [fit for fit, result in results.items() if fit.fold == FINAL and not result.collapsed]
    updated = {fit: _read(fit, data, results[fit]) for fit in finals}
    pending = [fit for fit, result in updated.items() if result is None]
    if pending:
        # torch is imported from here on, and only when there is work.
        from workflow.run.features import load_backbones

        backbones = load_backbones(config, {fit.member.backbone for fit in pending})
        rows = [*data.added, *data.test]
        for backbone in backbones.values():
            device = pick_device(config.options.device)
            backbone.fill(data, rows, config.decode, device, views_to_score(config, rows))
        with progress_bar("scoring feedback images", len(pending)) as bar:
            for fit in pending:
                bar.describe(f"feedback images, {fit.member.name}")
                backbone = backbones[fit.member.backbone]
                added, test = (
                    backbone.rows(data, list(some), config.decode) for some in (data.added, data.test)
                )
                _compute(fit, data, results[fit], added, test, config.recipe.views_at_scoring)
                updated[fit] = _read(fit, data, results[fit])
                bar.advance()
    return {fit: updated.get(fit) or result for fit, result in results.items()}


def _path(fit: Fit) -> Path:
    return fit.path.with_name("added.npz")


def _key(fit: Fit, data: PreparedData) -> str:
    return digest_of([_VERSION, fit.key, data.added_digest])


def _read(fit: Fit, data: PreparedData, trained: FitResult) -> FitResult | None:
    """The trained result updated by the cached one; None if that is missing, torn or of other images."""
    try:
        arrays, meta = read_arrays(_path(fit))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if meta.get("key") != _key(fit, data):
        return None
    scores = np.asarray(arrays["added"], dtype=np.float32)
    if not meta["has_grown"]:
        return replace(trained, added_scores=scores)
    return replace(
        trained,
        added_scores=scores,
        taken_in=meta["taken_in"],
        scores=np.asarray(arrays["held_out"], dtype=np.float32),
        state={name.removeprefix(_STATE): a for name, a in arrays.items() if name.startswith(_STATE)},
        state_meta=meta["state_meta"],
    )


def _compute(
    fit: Fit,
    data: PreparedData,
    trained: FitResult,
    added: ImageRows,
    test: ImageRows,
    views: ViewsAtScoring,
) -> None:
    """Score the feedback images, grow the member if it can, and write the cached result."""
    from features.apply import scores_as_seen

    def restored() -> Member:
        plan = fit.member
        member = build_member(plan.type, plan.settings, plan.backbone)
        return member.restore(trained.state, trained.state_meta)

    member = restored()
    is_normal = added.labels != added.n_classes - 1
    arrays: Arrays
    meta: dict[str, Any] = {"key": _key(fit, data), "member": fit.member.name, "has_grown": False}
    if isinstance(member, GrowingMember) and is_normal.any():
        fold_of_row = folds_of_feedback(data.added, int(data.fold_of_row.max()) + 1)
        scores = np.empty((len(added), trained.scores.shape[1]), dtype=np.float32)
        # Each fold is scored by a fresh copy, grown by the other folds alone: a bank that holds an image
        # would score it too low.
        for fold in np.unique(fold_of_row[is_normal]):
            held_out = is_normal & (fold_of_row == fold)
            scores[held_out] = _grown_score(restored(), added, is_normal & ~held_out, held_out, views)
        # From here on the member is the one that is shipped.
        meta["taken_in"] = member.add_normal(added.subset(np.flatnonzero(is_normal)))
        if not is_normal.all():
            scores[~is_normal] = scores_as_seen(member, added.subset(np.flatnonzero(~is_normal)), views)
        state, state_meta = member.state()
        # Without a test set there is nothing to score again.
        held_out_scores = scores_as_seen(member, test, views) if len(test) else trained.scores
        arrays = {"added": scores, "held_out": held_out_scores}
        arrays.update({_STATE + name: array for name, array in state.items()})
        meta.update(has_grown=True, state_meta=state_meta)
    else:
        arrays = {"added": scores_as_seen(member, added, views)}
    write_arrays(_path(fit), arrays, meta)


def _grown_score(
    member: Any,
    added: ImageRows,
    taken: npt.NDArray[np.bool_],
    scored: npt.NDArray[np.bool_],
    views: ViewsAtScoring,
) -> FloatArray:
    """Scores of some feedback images by a member that has taken in others of them."""
    from features.apply import scores_as_seen

    if taken.any():
        member.add_normal(added.subset(np.flatnonzero(taken)))
    return scores_as_seen(member, added.subset(np.flatnonzero(scored)), views)


def with_sentence(fitted: FittedEnsemble, data: PreparedData) -> FittedEnsemble:
    """The ensemble with a sentence on the feedback images it was fitted on; the same if there are none."""
    sentences = (*fitted.sentences, _sentence(data)) if data.added else fitted.sentences
    return replace(fitted, sentences=sentences)


def _sentence(data: PreparedData) -> str:
    """How feedback images count, and what that does to probabilities."""
    minority = data.manifest.class_names[-1]
    n_missed = sum(row.label == minority for row in data.added)
    n_normal = len(data.added) - n_missed
    counts = " and ".join(
        f"{n} {one if n == 1 else many}"
        for n, one, many in (
            (n_normal, "false alarm", "false alarms"),
            (n_missed, "missed image", "missed images"),
        )
        if n
    )
    return (
        f"{counts} added by update count as one row each beside the {len(data.train)} training rows, in "
        "class shares, calibration and threshold. They are a biased sample, chosen because they were decided "
        "wrongly: probabilities of similar images lean towards their labels."
    )


def note_unusable_feedback(config: RunConfig, data: PreparedData) -> None:
    """Say which feedback images no longer count, each with its reason."""
    _, reasons = FeedbackImages.read(config.folder).usable(
        config.spec, data.manifest.usable("train"), data.test
    )
    for path, reason in reasons.items():
        note(f"{path} no longer counts as a feedback image: {reason}.")
