"""Units of training work, a member on a fold of a repeat each, and their receipts.

A unit's result is one file, written whole: scores of the rows it held out, and for the final unit
(all training rows) the fitted state and the held-out split's scores. The file carries a key made of
everything the result depends on, so a unit whose key fits needs no repeating, and one whose settings
changed is repeated alone. Held-out rows enter the key of the final unit only, which scores them, and
no seed: what they look like can change no model. Augmented copies enter the keys of members
that see the minority.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from contracts.files import Arrays, digest_of, read_arrays, sha256_of_file, write_arrays
from contracts.rows import FloatArray
from features.settings import BackboneSettings
from workflow.run.prepared import PreparedData, seed_of
from workflow.settings.config import RunConfig
from workflow.settings.recipe import MemberPlan
from workflow.settings.registry import CONTROL, entry_of

# Raised when the code of a member changes so that old results should not be reused.
_UNITS_VERSION = 4
FINAL = -1
_STATE = "state/"

# Metric → its values as (step, value), in the order of the steps.
Curves = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Unit:
    """One member on one fold of one repeat.

    Attributes:
        member: its plan.
        fold: the fold held out; :data:`FINAL` for the fit on all training rows.
        seed: of its own; follows from the run's seed, the member's name, fold and repeat, not from the rows.
        key: digest of all that the result depends on.
        path: the result's file.
        repeat: of the cross-fitting, from 0.
    """

    member: MemberPlan
    fold: int
    seed: int
    key: str
    path: Path
    repeat: int = 0

    @property
    def label(self) -> str:
        """For progress and messages."""
        repeat = f"repeat {self.repeat + 1}, " if self.repeat else ""
        return f"{self.member.name}, {repeat}{'all rows' if self.fold == FINAL else f'fold {self.fold + 1}'}"


@dataclass(frozen=True)
class UnitResult:
    """What a finished unit left.

    Attributes:
        scores: ``[n, C]`` of the fold's rows; of the held-out split's rows for the final unit.
        state: fitted arrays (final unit only).
        state_meta: facts beside them.
        seconds: of fitting and scoring.
        score_ms: milliseconds an image of scoring, beyond the backbone's.
        sentences: noteworthy events.
        collapsed: why the member is to be left out; empty when it is not.
        curves: figures a step, as the member recorded them; empty in receipts of older versions.
        added_scores: ``[n, C]`` of the rows that ``update`` added, of a final unit; never in its receipt.
        taken_in: how much of them a member with a bank has taken in; in ``state``, never in the receipt.
    """

    scores: FloatArray
    state: Arrays
    state_meta: dict[str, Any]
    seconds: float
    score_ms: float
    sentences: list[str]
    collapsed: str
    curves: Curves = field(default_factory=dict)
    added_scores: FloatArray | None = None
    taken_in: int = 0

    def write(self, unit: Unit) -> None:
        """Write the receipt, whole or not at all."""
        arrays: Arrays = {"scores": self.scores}
        arrays.update({_STATE + name: array for name, array in self.state.items()})
        meta = {
            "key": unit.key,
            "member": unit.member.name,
            "fold": unit.fold,
            "state_meta": self.state_meta,
            "seconds": round(self.seconds, 3),
            "score_ms": round(self.score_ms, 4),
            "sentences": self.sentences,
            "collapsed": self.collapsed,
            "curves": self.curves,
        }
        if unit.repeat:
            meta["repeat"] = unit.repeat
        write_arrays(unit.path, arrays, meta)


def learns_from_copies(plan: MemberPlan) -> bool:
    """Whether a member is given the augmented copies of minority images.

    One-class members have no use for the minority, and the null control stays plain: what copies do shows
    as the difference of another member from it, such as ``cnn_copies: {type: cnn}``.
    """
    return entry_of(plan.type).kind != "oneclass" and plan.name != CONTROL


def units_of(config: RunConfig, data: PreparedData, members: tuple[MemberPlan, ...]) -> list[Unit]:
    """All units of the given members, repeat by repeat and fold by fold, each repeat's final one last."""
    repeats = range(config.recipe.repeats)
    # Folds are part of the digest, so it is another one each repeat.
    train_digests = [data.of_repeat(repeat).train_digest for repeat in repeats]
    test_digest, targets_digest = data.test_digest, data.targets_digest
    backbone_files = {plan.backbone: _weights_file_digest(plan.backbone) for plan in members}
    units = []
    for plan in members:
        folder = config.folder / "members" / plan.name
        copies = [data.augmented_digest] if data.augmented and learns_from_copies(plan) else []
        for repeat, fold in product(repeats, [*range(config.recipe.folds), FINAL]):
            # The first repeat's seeds, keys and files are those of a run without repeats.
            seed = seed_of(config.seed, plan.name, fold, *([repeat] if repeat else []))
            key = digest_of(
                [
                    _UNITS_VERSION,
                    plan.identity(),
                    backbone_files[plan.backbone],
                    config.spec.window,
                    train_digests[repeat],
                    test_digest if fold == FINAL else "",
                    fold,
                    seed,
                    # Nothing where there are none, so that keys are those of before there could be any.
                    *copies,
                    *(["scaled"] if config.spec.scaled_jpeg else []),
                    *([{"targets": targets_digest}] if targets_digest else []),
                ]
            )
            place = folder / f"repeat-{repeat}" if repeat else folder
            name = "final" if fold == FINAL else f"fold-{fold}"
            units.append(Unit(plan, fold, seed, key, place / f"{name}.npz", repeat))
    return units


def _weights_file_digest(backbone: BackboneSettings) -> str:
    path = Path(backbone.weights_source)
    return sha256_of_file(path) if path.is_file() else ""


def read_result(unit: Unit) -> UnitResult | None:
    """The unit's result, or None when it is missing, torn, or of other settings."""
    if not unit.path.exists():
        return None
    try:
        arrays, meta = read_arrays(unit.path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if meta.get("key") != unit.key:
        return None
    state = {name.removeprefix(_STATE): a for name, a in arrays.items() if name.startswith(_STATE)}
    return UnitResult(
        scores=np.asarray(arrays["scores"], dtype=np.float32),
        state=state,
        state_meta=meta["state_meta"],
        seconds=meta["seconds"],
        score_ms=meta["score_ms"],
        sentences=meta["sentences"],
        collapsed=meta["collapsed"],
        curves={
            metric: [(int(step), float(value)) for step, value in points]
            for metric, points in meta.get("curves", {}).items()
        },
    )
