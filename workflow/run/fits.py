"""Fits, each of one member on one fold of one repeat, and their results.

A fit's result is one file, written whole: scores of the rows it held out, and for the final fit
(all training rows) the fitted state and the test set's scores. The file carries a key made of
everything the result depends on, so a fit whose key matches is not repeated, and one whose settings
changed is repeated alone. Test rows enter the key of the final fit only, which scores them, and
no seed: the test set cannot change a model. Augmented copies enter the keys of members
that see the minority, and views those of members that learn from views.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from contracts.errors import UsageError
from contracts.files import Arrays, digest_of, read_arrays, sha256_of_file, write_arrays
from contracts.member import Member
from contracts.rows import FloatArray, ImageRows, MaskArray, majority_positions
from features.settings import BackboneSettings
from imagedata.views import ViewsAtScoring
from workflow.run.copies.views import key_of_views, learns_from_views
from workflow.run.prepared import PreparedData, seed_of
from workflow.settings.config import RunConfig
from workflow.settings.recipe import MemberPlan
from workflow.settings.registry import BASELINE, entry_of

# Raised when code that all members share changes so that old results must not be reused. Where it is one
# member's, the revision of its entry in the registry is raised.
_FITS_VERSION = 5
FINAL = -1

UNUSUAL = 99.5
"""Percentile of a map's values on normal patches from which on a value is unusual: one patch in 200."""

_MAPPED_ROWS = 64
_MAP_QUANTILES = 1024
_STATE = "state/"
_NORMAL_MAP = "normal_map"

# Metric → its values as (step, value), in the order of the steps.
Curves = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Fit:
    """One member on one fold of one repeat.

    Attributes:
        member: its plan.
        fold: the fold held out; :data:`FINAL` for the fit on all training rows.
        seed: of its own; follows from the run's seed, the member's name, fold and repeat, not from the rows.
        key: digest of all that the result depends on.
        path: the result's file.
        repeat: of the cross-fitting, from 0.
        without: kind of the minority that it does not learn from either; empty for an ordinary fit. See
            :mod:`workflow.run.kinds`.
    """

    member: MemberPlan
    fold: int
    seed: int
    key: str
    path: Path
    repeat: int = 0
    without: str = ""

    @property
    def label(self) -> str:
        """For progress and messages."""
        if self.without:
            return f"{self.member.name}, fold {self.fold + 1} without {self.without}"
        repeat = f"repeat {self.repeat + 1}, " if self.repeat else ""
        return f"{self.member.name}, {repeat}{'all rows' if self.fold == FINAL else f'fold {self.fold + 1}'}"


@dataclass(frozen=True)
class FitResult:
    """What a finished fit left.

    Attributes:
        scores: ``[n, C]`` of the fold's rows; of the test set's rows for the final fit.
        state: fitted arrays (final fit only).
        state_meta: facts beside them.
        seconds: of fitting and scoring.
        score_ms: milliseconds per image of scoring, without the backbone.
        sentences: events worth telling.
        collapsed: why the member must be left out; empty if it need not.
        curves: figures per step, as the member recorded them; empty in cached results of older versions.
        normal_map: ``[q]`` rising quantiles, evenly spread, of the member's map on normal rows that the fold
            held out; None for final fits, and where it has no map.
        added_scores: ``[n, C]`` of the feedback images, of a final fit; never in its cached result.
        taken_in: how much of them a member with a bank has taken in; in ``state``, never in the cached
            result.
    """

    scores: FloatArray
    state: Arrays
    state_meta: dict[str, Any]
    seconds: float
    score_ms: float
    sentences: list[str]
    collapsed: str
    curves: Curves = field(default_factory=dict)
    normal_map: FloatArray | None = None
    added_scores: FloatArray | None = None
    taken_in: int = 0

    def write(self, fit: Fit) -> None:
        """Write the result, completely or not at all."""
        arrays: Arrays = {"scores": self.scores}
        if self.normal_map is not None:
            arrays[_NORMAL_MAP] = self.normal_map
        arrays.update({_STATE + name: array for name, array in self.state.items()})
        meta = {
            "key": fit.key,
            "member": fit.member.name,
            "fold": fit.fold,
            "state_meta": self.state_meta,
            "seconds": round(self.seconds, 3),
            "score_ms": round(self.score_ms, 4),
            "sentences": self.sentences,
            "collapsed": self.collapsed,
            "curves": self.curves,
        }
        if fit.repeat:
            meta["repeat"] = fit.repeat
        write_arrays(fit.path, arrays, meta)


def learns_from_copies(plan: MemberPlan) -> bool:
    """Whether a member learns from the augmented copies of minority images.

    One-class members do not use the minority, and the calibrated baseline stays plain: the effect of copies
    is the difference between it and another member, such as ``cnn_copies: {type: cnn}``.
    """
    return entry_of(plan.type).kind != "oneclass" and plan.name != BASELINE


def is_harmed(plan: MemberPlan) -> bool:
    """Whether rows that are wrongly taken to be normal harm a member, because it models the majority."""
    return entry_of(plan.type).kind != "supervised"


def contamination_of(config: RunConfig) -> float:
    """Share of the majority's rows that one-class members leave out; 0 where labels say what is normal.

    Labels that are given to an unlabelled data set are of the minority, as a rule: the other images are still
    only assumed to be normal.
    """
    return config.recipe.contamination if config.spec.unlabelled else 0.0


def can_learn(plan: MemberPlan, data: PreparedData, fold: int = FINAL) -> bool:
    """Whether the training rows hold what a member learns from, outside a fold or altogether.

    Without a labelled minority image only one-class members can be fitted. With a single one (or a single
    group of them) supervised members are fitted on all rows, but cannot be without the fold that holds it;
    those that need more to be worth their place wait (``least_labels`` of the registry).
    """
    kind = entry_of(plan.type).kind
    if kind == "oneclass":
        return True
    if data.regime != "labelled":
        return False
    if kind == "semisupervised":
        # Where a fold holds the only minority image, Deep SAD and its like are one-class models.
        return True
    minority = data.manifest.class_names[-1]
    n_independent = len({row.group for row in data.train if row.label == minority})
    if n_independent < entry_of(plan.type).least_labels:
        return False
    left = data.labels(data.train)[data.fold_of_row != fold]
    return len(np.unique(left)) == len(data.manifest.class_names)


def learning_members(
    config: RunConfig, data: PreparedData, members: tuple[MemberPlan, ...]
) -> tuple[MemberPlan, ...]:
    """The members that the labels allow, in the recipe's order.

    Raises:
        UsageError: none of them; says which members could be fitted.
    """
    learning = tuple(plan for plan in members if can_learn(plan, data))
    if not learning:
        names = ", ".join(plan.name for plan in members)
        if data.regime == "labelled":
            raise UsageError(
                f"{config.spec.name}: one independent image of {data.manifest.class_names[-1]} is labelled, "
                f"and {names} can be trained from two on. Add another member, or label one more "
                "image."
            )
        raise UsageError(
            f"{config.spec.name}: no minority image is labelled, so that only one-class members can be "
            f"trained, and recipe {config.recipe.name} gives {names}. Add one, such as "
            "-o members.patchcore={}, or label at least one image of the minority."
        )
    return learning


def fits_of(config: RunConfig, data: PreparedData, members: tuple[MemberPlan, ...]) -> list[Fit]:
    """All fits of the given members, repeat by repeat and fold by fold, each repeat's final one last.

    Members that the labels do not allow have none (:func:`can_learn`). Without a test set the repeats after
    the first only serve to judge, and have a final fit only where the recipe selects among repeats.

    Raises:
        UsageError: as :func:`learning_members`.
    """
    members = learning_members(config, data, members)
    repeats = range(data.n_repeats)
    needs_finals = bool(data.test) or config.recipe.select != "first"
    # Folds are part of the digest, so each repeat has its own.
    train_digests = [data.of_repeat(repeat).train_digest for repeat in repeats]
    test_digest, keys = data.test_digest, FitKeys(config, data, members)
    fits = []
    for plan in members:
        folder = config.folder / "members" / plan.name
        for repeat, fold in product(repeats, [*range(config.recipe.folds), FINAL]):
            is_final = fold == FINAL
            if is_final and repeat and not needs_finals:
                continue
            if not is_final and not can_learn(plan, data.of_repeat(repeat), fold):
                continue
            # The first repeat's seeds, keys and files are those of a run without repeats.
            seed = seed_of(config.seed, plan.name, fold, *([repeat] if repeat else []))
            # New test images must not make the folds' fits stale, which never saw them.
            key = keys.of(plan, train_digests[repeat], test_digest if is_final else "", fold, seed)
            place = folder / f"repeat-{repeat}" if repeat else folder
            name = "final" if is_final else f"fold-{fold}"
            fits.append(Fit(plan, fold, seed, key, place / f"{name}.npz", repeat))
    return fits


class FitKeys:
    """Digests of all that fits' results depend on.

    Args:
        config: the run.
        data: its rows.
        members: whose fits.
    """

    def __init__(self, config: RunConfig, data: PreparedData, members: tuple[MemberPlan, ...]) -> None:
        self._config = config
        self._backbone_files = {plan.backbone: _weights_file_digest(plan.backbone) for plan in members}
        self._copies = data.augmented_digest if data.augmented else ""
        self._targets = data.targets_digest
        self._contamination = contamination_of(config)
        self._shape = config.shape_key
        self._views = key_of_views(data)
        self._views_at_scoring = config.recipe.said_of_views_at_scoring

    def of(self, plan: MemberPlan, train: str, scored: str, fold: int, seed: int, *more: Any) -> str:
        """The key of one fit.

        Args:
            plan: the member.
            train: digest of the training rows and their folds.
            scored: digest of further rows that it scores; empty where there are none.
            fold: as of :class:`Fit`.
            seed: of the fit.
            more: what else it depends on.
        """
        spec, contamination, revision = self._config.spec, self._contamination, entry_of(plan.type).revision
        return digest_of(
            [
                _FITS_VERSION,
                plan.identity(),
                self._backbone_files[plan.backbone],
                # Pixels depend on it.
                spec.window,
                train,
                scored,
                fold,
                seed,
                # Empty if there are none, so that such fits keep the keys they had before copies existed.
                *([self._copies] if self._copies and learns_from_copies(plan) else []),
                *(["scaled"] if spec.scaled_jpeg else []),
                *([self._shape] if self._shape else []),
                *([{"targets": self._targets}] if self._targets else []),
                *([{"contamination": contamination}] if contamination and is_harmed(plan) else []),
                *(self._views if learns_from_views(plan) else []),
                *([self._views_at_scoring] if self._views_at_scoring else []),
                *([{"revision": revision}] if revision else []),
                *more,
            ]
        )


def _weights_file_digest(backbone: BackboneSettings) -> str:
    path = Path(backbone.weights_source)
    # By content: a file of new weights under the old name is another backbone.
    return sha256_of_file(path) if path.is_file() else ""


def read_result(fit: Fit) -> FitResult | None:
    """The fit's result, or None when it is missing, torn, or of other settings."""
    if not fit.path.exists():
        return None
    try:
        arrays, meta = read_arrays(fit.path)
    # A torn or foreign file is as good as none: the fit is done again and replaces it.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if meta.get("key") != fit.key:
        return None
    state = {name.removeprefix(_STATE): a for name, a in arrays.items() if name.startswith(_STATE)}
    return FitResult(
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
        normal_map=arrays.get(_NORMAL_MAP),
    )


def map_quantiles(
    member: Member,
    held_out: ImageRows,
    seen: Callable[[int], MaskArray | None] = lambda _: None,
    views: ViewsAtScoring = "none",
) -> FloatArray | None:
    """``[q]`` quantiles of a fitted member's map over normal rows; None where it has no map, or no such row.

    Args:
        member: fitted on other rows.
        held_out: rows that it has not seen; at most 64 normal ones, evenly spread, are mapped.
        seen: cells per side → ``[g, g]`` which of them hold something of the region of interest; None: all.
        views: how each image is seen.
    """
    from features.apply import maps_as_seen

    normal = majority_positions(held_out)
    if len(normal) == 0:
        return None
    # Evenly spread rather than the first, which may all be of one group.
    chosen = normal[:: -(-len(normal) // _MAPPED_ROWS)]
    # One row tells whether there is a map at all; whole CNNs take long to say so of many.
    if maps_as_seen(member, held_out.subset(chosen[:1]), "none") is None:
        return None
    maps = maps_as_seen(member, held_out.subset(chosen), views)
    assert maps is not None
    inside = seen(maps.shape[-1])
    if inside is not None:
        maps = maps[:, inside]
    n_kept = min(_MAP_QUANTILES, maps.size)
    levels = (np.arange(n_kept) + 0.5) / n_kept
    quantiles: FloatArray = np.quantile(maps, levels).astype(np.float32)
    return quantiles


def usual_map_values(
    results: Mapping[Fit, FitResult], repeats: Collection[int]
) -> dict[str, tuple[float, float]]:
    """Member → what its map shows on normal patches: the median, and what one in 200 lies above.

    Members that were on no fold asked for a map are absent.

    Args:
        results: of the fits.
        repeats: whose fits count.
    """
    of_member: dict[str, list[FloatArray]] = {}
    for fit, result in results.items():
        if result.normal_map is not None and fit.repeat in repeats:
            of_member.setdefault(fit.member.name, []).append(result.normal_map)
    found = {}
    for name, quantiles in of_member.items():
        low, high = np.percentile(np.concatenate(quantiles).astype(np.float64), [50.0, UNUSUAL])
        # Normal patches that are all alike show no spread, and their values stay in their own unit.
        found[name] = (float(low), float(high if high > low else low + 1.0))
    return found
