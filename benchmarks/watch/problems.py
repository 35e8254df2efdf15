"""Finished runs and what their files say of pools of images that no model saw, as they are and changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.watch.changes import CHANGES, Change
from contracts.errors import ModelError
from contracts.files import atomic_writer
from contracts.rows import FloatArray
from export.scoring.model import ScoringModel, load_model
from export.scoring.watch.batch import BatchCounts, count_images, log_odds_in_training
from export.scoring.watch.reference import WatchReference, reference_of
from imagedata.decoding.decode import decode_bytes
from imagedata.decoding.facts import picture_facts
from reporting.terminal import note, progress_bar
from workflow.ensembling.ensemble import ensemble
from workflow.run.state import Run
from workflow.settings.config import RunOptions
from workflow.training.train import train_all

_NEU_NORMAL, _NEU_MINORITY = ("inclusion", "rolled-in_scale"), "scratches"
_NEU_NEVER = ("crazing", "patches", "pitted_surface")
_NEU_TRAIN = {"inclusion": 180, "rolled-in_scale": 180, "scratches": 40}
_CHANGED_NORMAL, _CHANGED_MINORITY, _NEVER_SEEN = 200, 30, 60
"""Images that are changed, of each class, and of each kind that was never trained."""

_BATCH = 8


@dataclass(frozen=True)
class Pool:
    """Images that were scored: what batches are drawn from.

    Attributes:
        facts: ``[N, F]``.
        scores: ``[N, M]``.
        log_odds: ``[N]``.
        features: ``[N, k]`` watched features.
    """

    facts: FloatArray
    scores: FloatArray
    log_odds: npt.NDArray[np.float64]
    features: FloatArray

    def __len__(self) -> int:
        """N."""
        return len(self.facts)


@dataclass(frozen=True)
class Problem:
    """A file and its pools; of ``normal`` and ``minority`` each, and of a change both.

    Attributes:
        name: of the data set.
        reference: of the file.
        members: names of score columns.
        normal: test images.
        minority: test images.
        changed: change → normal and minority images so changed.
        never_seen: images of kinds that were never trained; None where there are none.
        cache: folder for what is known of it.
    """

    name: str
    reference: WatchReference
    members: Sequence[str]
    normal: Pool
    minority: Pool
    changed: dict[str, tuple[Pool, Pool]]
    never_seen: Pool | None
    cache: Path

    def counts(self, *parts: tuple[Pool, npt.NDArray[np.int64]]) -> BatchCounts:
        """Counts of a batch: images of pools, by position."""
        facts, scores, log_odds, features = (
            np.concatenate([getattr(pool, name)[rows] for pool, rows in parts])
            for name in ("facts", "scores", "log_odds", "features")
        )
        return count_images(self.reference, self.members, facts, scores, log_odds, features)


def make_problem(name: str, data: Path | None, runs: Path) -> Problem:
    """Train and export where that is not done, then score what is not in the cache.

    Args:
        name: ``neu``, for one of its kinds made rare, or a data set of the catalogue with a test set.
        data: directory that holds the data sets.
        runs: directory of runs.

    Raises:
        ModelError: the file keeps nothing for the watch.
    """
    options = _neu(data, runs) if name == "neu" else _known(name, data, runs)
    if options.overrides:
        train_all(options)
    run = Run.open(options)
    if run.finished is None:
        ensemble(options)
        run = Run.open(options)
    model = load_model(run.model)
    reference = reference_of(model.document)
    if reference is None or reference.log_odds is None or not reference.n_features:
        raise ModelError(f"{run.model}: keeps too little for the watch. Delete it; give 'ensemble'.")
    labels = run.data.labels(run.data.test)
    files = [[run.data.file_of(row) for row in np.array(run.data.test)[labels == k]] for k in (0, 1)]
    cache = runs / "watch" / f"{name}-{model.sha256[:12]}"
    normal, minority = (_pool(model, part, cache, "as it is") for part in files)
    some = [files[0][:_CHANGED_NORMAL], files[1][:_CHANGED_MINORITY]]
    changed = {}
    for what, change in CHANGES.items():
        pair = [_pool(model, part, cache, what, change) for part in some]
        changed[what] = (pair[0], pair[1])
    strange = _never_seen(data) if name == "neu" else []
    never_seen = _pool(model, strange, cache, "as it is") if strange else None
    return Problem(name, reference, model.members, normal, minority, changed, never_seen, cache)


def _known(name: str, data: Path | None, runs: Path) -> RunOptions:
    """A data set of the catalogue, as it was trained, or to be trained without fits for kinds never seen."""
    overrides = () if (runs / name).exists() else ("kinds=off",)
    return RunOptions(name, data=data, runs=runs, overrides=overrides, tracking=False)


def _neu(data: Path | None, runs: Path) -> RunOptions:
    """Steel strips: two kinds of surface are usual, scratches are rare, three kinds never trained."""
    root = (data or Path("data")) / "neu"
    folder = runs / "watch" / "neu_scratches"
    for kind in (*_NEU_NORMAL, _NEU_MINORITY):
        for number, file in enumerate(sorted((root / kind).iterdir())):
            split = "train" if number < _NEU_TRAIN[kind] else "test"
            place = folder / split / (kind if kind == _NEU_MINORITY else "usual") / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.symlink_to(file.resolve())
    return RunOptions(
        str(folder), runs=runs, minority=_NEU_MINORITY, overrides=("kinds=off",), tracking=False
    )


def _never_seen(data: Path | None) -> list[Path]:
    root = (data or Path("data")) / "neu"
    return [file for kind in _NEU_NEVER for file in sorted((root / kind).iterdir())[:_NEVER_SEEN]]


def _pool(
    model: ScoringModel, files: Sequence[Path], cache: Path, what: str, change: Change | None = None
) -> Pool:
    """What the file says of images, from the cache where it is there."""
    key = hashlib.sha256("\n".join([what, *map(str, files)]).encode()).hexdigest()[:16]
    kept = cache / f"{key}.npz"
    if not kept.exists():
        note(f"{cache.name}: scoring {len(files)} images, {what}.")
        facts, scores, log_odds, features = [], [], [], []
        with progress_bar(what, len(files)) as bar:
            for start in range(0, len(files), _BATCH):
                pixels = []
                for file in files[start : start + _BATCH]:
                    contents = file.read_bytes()
                    contents = change(contents) if change else contents
                    decoded = decode_bytes(contents, model.decode)
                    facts.append(picture_facts(decoded, len(contents)))
                    pixels.append(decoded.pixels)
                    bar.advance()
                said = model.run(np.stack(pixels))
                # A file of two classes with labels, and with a member that reads pooled features.
                assert said.probability is not None
                assert said.watched_features is not None
                scores.append(said.member_scores)
                log_odds.append(log_odds_in_training(said.probability, None, model.document))
                features.append(said.watched_features)
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_writer(kept) as handle:
            np.savez(
                handle,
                facts=np.stack(facts),
                scores=np.concatenate(scores),
                log_odds=np.concatenate(log_odds),
                features=np.concatenate(features),
            )
    with np.load(kept) as arrays:
        return Pool(*(arrays[name] for name in ("facts", "scores", "log_odds", "features")))
