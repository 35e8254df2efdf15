"""The run's own learning curve: its members refitted on subsets of the labelled minority images.

The majority's rows stay, so one-class members stay as they are, and only members that read labels are
refitted, on cached features. Each draw puts the minority's groups in an order, balanced over the folds, and
takes the first quarter, half and so on of them, which makes its subsets nested. Everything else is as in the
run: its folds, its way to an ensemble, and the rows that its figures stand on. Minority images that a subset
lacks are judged like all others, so every point is measured on the same images.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from ensemble.pipeline import fit_ensemble
from evaluation.learning_curve import FIGURES, draw_interval, extrapolate
from evaluation.ranking import ranking_figures
from features.devices import pick_device
from reporting.learning_curve import more_labels
from reporting.terminal import progress_bar
from workflow.ensembling.measuring import ENSEMBLE_ROW, at_own_shares, fit_to_judge
from workflow.run.copies.views import views_of_run
from workflow.run.fits import FINAL, Fit, FitResult
from workflow.run.label_curve import CurveFile
from workflow.run.prepared import seed_of
from workflow.run.score_tables import score_tables
from workflow.run.state import Run
from workflow.settings.recipe import MemberPlan
from workflow.settings.registry import entry_of
from workflow.training.estimates import trains_whole_network
from workflow.training.train import FitWork

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the minority's groups, in each subset."""

MORE = 10
"""Additional labelled images that the curve is continued by."""

_FEWEST_GROUPS = 4  # so that there is a size below all of them
# One of two groups is left where the other's fold is judged, which two classes bear; more classes need two.
_FEWEST_IN_SUBSET, _FEWEST_OF_MORE_CLASSES = 2, 3
_SLOWEST_ROW = 0.01  # seconds of a fit per training row
MOST_DRAWS, FEWEST_DRAWS = 8, 4
_BUDGET_SECONDS = 60.0
_LONGEST_SECONDS = 240.0
_SECONDS_PER_FUSION = 0.1  # of fitting one ensemble on scores

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Plan:
    """What is refitted.

    Attributes:
        members: in the curve's ensembles.
        refitted: those of them that read labels.
        left_out: member → why it is not in the curve.
        sizes: groups in each subset, ascending; the last one is all.
        n_draws: orders of the groups.
        refusal: why there can be no curve; empty if there can.
    """

    members: tuple[MemberPlan, ...] = ()
    refitted: tuple[MemberPlan, ...] = ()
    left_out: dict[str, str] | None = None
    sizes: tuple[int, ...] = ()
    n_draws: int = 0
    refusal: str = ""


def learning_curve(run: Run) -> dict[str, Any]:
    """The curve of a trained and labelled run: the kept one, or a new one, which is then kept.

    Returns:
        ``{minority, more, measured, members, refitted, left_out, draws, sizes, next, sentence, seconds}``. An
        entry of ``sizes`` has ``images`` (mean over draws), ``groups``, and ``{mean, interval, values}`` for
        each of :data:`evaluation.learning_curve.FIGURES`; ``next`` has ``{now, then, low, high, trend,
        exponent, exponent_interval}`` of each. Where there can be no curve, ``sizes`` and ``next`` are empty
        and ``sentence`` says why.

    Raises:
        ModelError: members are not trained.
    """
    file = CurveFile(run)
    if file.document is None:
        file.keep(_made(run, file))
    assert file.document is not None
    return file.document


def _made(run: Run, file: CurveFile) -> dict[str, Any]:
    started = time.monotonic()
    plan = _plan(run)
    names = run.data.manifest.class_names
    document: dict[str, Any] = {
        "minority": names[-1],
        "more": MORE,
        "measured": run.measured,
        "members": [member.name for member in plan.members],
        "refitted": [member.name for member in plan.refitted],
        "left_out": plan.left_out or {},
        "draws": plan.n_draws,
        "sizes": [],
        "next": {},
        "sentence": plan.refusal,
    }
    if plan.refusal:
        return {**document, "seconds": 0.0}
    images_DS, figures = _draw_all(run, plan, file)
    n_images = images_DS.mean(axis=0)
    document["sizes"] = [
        {
            "images": float(n_images[s]),
            "groups": size,
            **{name: _spread(values_DS[:, s]) for name, values_DS in figures.items()},
        }
        for s, size in enumerate(plan.sizes)
    ]
    for name, values_DS in figures.items():
        found = extrapolate(n_images, values_DS, MORE, run.config.seed)
        document["next"][name] = {
            **vars(found),
            "exponent_interval": list(found.exponent_interval),
            "trend": found.trend,
        }
    document["sentence"] = more_labels(document)
    return {**document, "seconds": round(time.monotonic() - started, 1)}


def _spread(values_D: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {
        "mean": float(values_D.mean()),
        "interval": list(draw_interval(values_D)),
        "values": values_D.tolist(),
    }


# ---- what is to be done


def _plan(run: Run) -> _Plan:
    data = run.data
    minority = data.manifest.class_names[-1]
    n_groups = len({row.group for row in data.train if row.label == minority})
    if n_groups < _FEWEST_GROUPS:
        return _Plan(
            refusal=f"What more labelled images of {minority} would buy cannot be told yet: a learning curve "
            f"takes at least {_FEWEST_GROUPS} independent ones, and there are {n_groups}."
        )
    trained = [p for p in run.config.members if any(fit.member == p for fit in run.trained)]
    members = [p for p in trained if p.name not in run.left_out]
    # A member of one class never sees the minority.
    readers = [p for p in members if entry_of(p.type).kind != "oneclass"]
    has_two_classes = len(data.manifest.class_names) == 2
    fewest = _FEWEST_IN_SUBSET if has_two_classes else _FEWEST_OF_MORE_CLASSES
    sizes = tuple(sorted({max(fewest, round(share * n_groups)) for share in SHARES}))
    repeat_fits = run.config.recipe.folds + bool(data.test)
    rows = len(data.train) + len(data.augmented)
    per_draw = {p: (len(sizes) - 1) * repeat_fits * rows * entry_of(p.type).seconds_per_row for p in readers}
    left_out = {p.name: reason for p in readers if (reason := _too_slow(p, FEWEST_DRAWS * per_draw[p]))}
    refitted = tuple(p for p in readers if p.name not in left_out)
    if not refitted:
        why = "".join(f" {name} {reason}." for name, reason in left_out.items())
        return _Plan(
            refusal="There is no learning curve, because no member that learns from labels can be refitted "
            f"in seconds.{why}",
            left_out=left_out,
        )
    seconds = sum(per_draw[p] for p in refitted) + len(sizes) * repeat_fits * _SECONDS_PER_FUSION
    return _Plan(
        members=tuple(p for p in members if p.name not in left_out),
        refitted=refitted,
        left_out=left_out,
        sizes=sizes,
        n_draws=max(FEWEST_DRAWS, min(MOST_DRAWS, int(_BUDGET_SECONDS / seconds))),
    )


def _too_slow(plan: MemberPlan, seconds: float) -> str:
    """Why a member is not in the curve; empty if it is."""
    from workflow.run.features import backbones_read_by

    if trains_whole_network(plan) or not backbones_read_by([plan]):
        return "learns from pixels"
    if entry_of(plan.type).seconds_per_row > _SLOWEST_ROW or seconds > _LONGEST_SECONDS:
        return f"would take about {seconds / 60:.0f} minutes"
    return ""


# ---- doing it


def _draw_all(
    run: Run, plan: _Plan, file: CurveFile
) -> tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[np.float64]]]:
    """``[D, S]`` numbers of minority images, and figure → ``[D, S]`` values."""
    repeats = sorted({fit.repeat for fit in run.trained})
    images = np.empty((plan.n_draws, len(plan.sizes)))
    figures = {name: np.empty_like(images) for name in FIGURES}
    with (
        progress_bar("learning curve", images.size) as bar,
        TemporaryDirectory(prefix="outnumbered-curve-") as scratch,
    ):
        refits = _Refits(run, plan, Path(scratch))
        for draw in range(plan.n_draws):
            # Folds differ between draws as far as the run has repeats of them.
            repeat = repeats[draw % len(repeats)]
            order = _order_of_groups(run, repeat, seed_of(run.config.seed, "learning curve", draw))
            for s, size in enumerate(plan.sizes):
                is_kept = _kept(run, order[:size])
                images[draw, s] = np.sum(is_kept) - _n_majority(run)
                # All labels are the same in every draw of a repeat.
                name = f"repeat {repeat}" if size == plan.sizes[-1] else f"draw {draw}, {size} groups"
                found = file.figures(name)
                if found is None:
                    found = refits.figures(repeat, is_kept)
                    file.keep_figures(name, found)
                for figure in FIGURES:
                    figures[figure][draw, s] = found[figure]
                bar.advance()
    return images, figures


def _n_majority(run: Run) -> int:
    return sum(row.label != run.data.manifest.class_names[-1] for row in run.data.train)


def _order_of_groups(run: Run, repeat: int, seed: int) -> list[str]:
    """The minority's groups in random order, one of each fold in turn: subsets are balanced as runs are.

    The first two then lie in two folds, without which nothing could be cross-fitted.
    """
    rng = np.random.default_rng(seed)
    data, minority = run.data.of_repeat(repeat), run.data.manifest.class_names[-1]
    of_fold: dict[int, list[str]] = {}
    for row, fold in zip(data.train, data.fold_of_row.tolist(), strict=True):
        groups = of_fold.setdefault(fold, [])
        if row.label == minority and row.group not in groups:
            groups.append(row.group)
    turns: list[tuple[int, int, str]] = []
    for place, fold in enumerate(rng.permutation(sorted(of_fold))):
        groups = of_fold[int(fold)]
        turns += [(turn, place, groups[i]) for turn, i in enumerate(rng.permutation(len(groups)))]
    return [group for _, _, group in sorted(turns)]


def _kept(run: Run, groups: list[str]) -> Mask:
    """``[N]`` True for training rows of the majority and for the minority's in the given groups."""
    minority, chosen = run.data.manifest.class_names[-1], set(groups)
    return np.array([row.label != minority or row.group in chosen for row in run.data.train])


class _Refits:
    """Figures of ensembles whose members saw a part of the minority.

    Args:
        run: whose members, folds and settings.
        plan: which members.
        scratch: folder for what members leave beside their results.
    """

    def __init__(self, run: Run, plan: _Plan, scratch: Path) -> None:
        self._run, self._plan, self._scratch = run, plan, scratch
        # Feedback images are no training rows.
        self._data = replace(run.data, added=())
        self._work: FitWork | None = None

    def figures(self, repeat: int, is_kept: Mask) -> dict[str, float]:
        """Figures of the ensemble fitted on the kept rows ``[N]``, on all rows that the run is judged on."""
        results: dict[Fit, FitResult] = {}
        for fit, result in self._run.trained.items():
            if fit.repeat != repeat or fit.member not in self._plan.members:
                continue
            if fit.member not in self._plan.refitted or is_kept.all():
                results[fit] = result
            elif fit.fold != FINAL or self._data.test:
                results[fit] = self._refit(fit, is_kept)
        collapsed = {fit.member.name: result.collapsed for fit, result in results.items() if result.collapsed}
        oof, test = score_tables(self._data, results, collapsed, (repeat,))
        judged = test if self._run.measured == "test_set" else oof
        known = oof.row_ids[is_kept]
        fitted = fit_to_judge(
            self._run, oof, lambda table: self._fit(table.rows(np.isin(table.row_ids, known)))
        )
        of_minority = at_own_shares(fitted[ENSEMBLE_ROW], judged)[:, -1]
        return ranking_figures(judged.labels == len(judged.class_names) - 1, of_minority)

    def _fit(self, oof: ScoreTable) -> dict[str, FittedEnsemble]:
        recipe = self._run.config.recipe
        # The threshold changes no ranking, and this one needs no bootstrap.
        rule = "cost:1:1" if len(oof.class_names) == 2 else recipe.threshold
        return {
            ENSEMBLE_ROW: fit_ensemble(
                oof, deployment_prior=self._run.prior, threshold_rule=rule, seed=self._run.config.seed
            )
        }

    def _refit(self, fit: Fit, is_kept: Mask) -> FitResult:
        """Fit on the kept rows outside the fold; score all rows in it, or the test rows."""
        data = self._data.of_repeat(fit.repeat)
        here = np.flatnonzero(is_kept | (data.fold_of_row == fit.fold))
        rows = [data.train[i] for i in here]
        paths = {row.path for row in rows}
        part = replace(
            data,
            train=rows,
            fold_of_row=data.fold_of_row[here],
            more_folds=(),
            augmented=tuple(row for row in data.augmented if row.source in paths),
            targets=None if data.targets is None else data.targets[here],
        )
        if self._work is None:
            self._work = _work_of(self._run, self._plan.refitted)
        elsewhere = self._scratch / fit.path.name
        return replace(self._work, data=part).result(replace(fit, repeat=0, path=elsewhere))


def _work_of(run: Run, members: tuple[MemberPlan, ...]) -> FitWork:
    from workflow.run.features import backbones_read_by, load_backbones

    device = pick_device(run.config.options.device)
    loaded = load_backbones(run.config, backbones_read_by(members))
    for each in loaded.values():
        rows = [*run.data.train, *run.data.test, *run.data.augmented]
        views = views_of_run(run.config, run.data, members)
        each.fill(run.data, rows, run.config.decode, device, views)
    stores = {settings: each.store for settings, each in loaded.items()}
    return FitWork(run.config, run.data, stores, device)
