"""What each step of PatchCore is worth on normal images alone, by itself and in the plain mean of members."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.few_labels.digests import digest_of_code
from benchmarks.few_labels.draws import draw_of, usable_counts
from benchmarks.few_labels.fits import FewLabels
from benchmarks.few_labels.intervals import Interval, interval_of
from benchmarks.few_labels.sets import load_set, sets_named
from benchmarks.few_labels.tables import COUNTS
from contracts.errors import UsageError, nearest_match
from contracts.files import digest_of, read_arrays, write_arrays, write_text
from contracts.member import FitContext
from contracts.rows import FloatArray, ImageRows, LabelArray
from reporting.terminal import note
from workflow.run.features import load_backbones
from workflow.settings.recipe import MemberPlan
from workflow.settings.registry import build_member, settings_class

_FORMER: dict[str, Any] = {"pca_dim": 128, "whiten": False, "bank_size": 2000, "image_score": "top_mean"}
FORMS: dict[str, dict[str, Any]] = {
    "former": _FORMER,
    "1,000 patches": {**_FORMER, "bank_size": 1000},
    "equation 7": {**_FORMER, "image_score": "reweighted"},
    "whitened": {"whiten": True, "image_score": "top_mean"},
    "default": {},
    "default, 2,000 patches": {"bank_size": 2000},
    "default, whitened": {"whiten": True},
    "default, whitened, shrinkage .07": {"whiten": True, "shrinkage": 0.07},
    "nearby 1": {"nearby": 1},
    "nearby 2": {"nearby": 2},
    "nearby 4": {"nearby": 4},
    "nearby 2, whitened": {"nearby": 2, "whiten": True},
}
"""Settings of PatchCore by name; the first is what all others are compared with."""

_OTHERS = ("deep_svdd", "subspace")
# Of a ranking error, so that a perfect ranking has a logarithm.
_FLOOR = 0.005


@dataclass(frozen=True)
class FormsBench:
    """What is asked for.

    Attributes:
        data: directory that holds the data sets.
        cache: for features and scores.
        sets: names; all where none is given.
        draws: of each set.
        forms: of PatchCore; all where none is given.
        markdown: receives the tables, or None.
    """

    data: Path | None
    cache: Path
    sets: Sequence[str] = ()
    draws: int = 2
    forms: Sequence[str] = ()
    markdown: Path | None = None


@dataclass(frozen=True)
class Judged:
    """AUROC of the forms on one draw of a set.

    Attributes:
        data_set: its name.
        alone: form → AUROC.
        fused: form → AUROC of the plain mean with the other anomaly members of recipe quick.
    """

    data_set: str
    alone: dict[str, float]
    fused: dict[str, float]


def bench_forms(bench: FormsBench) -> dict[str, Any]:
    """Measure; the figures as a document.

    Raises:
        UsageError: no such set or form.
    """
    unknown = [name for name in bench.forms if name not in FORMS]
    if unknown:
        raise UsageError(
            f"--forms {unknown[0]}: not known. Known are {' / '.join(FORMS)}."
            f"{nearest_match(unknown[0], FORMS)}"
        )
    forms = list(bench.forms or FORMS)
    judged = []
    for problem in _judged(bench, forms):
        judged.append(problem)
        note(f"{problem.data_set}: " + ", ".join(f"{k} {v:.3f}" for k, v in problem.alone.items()))
    lines = _page(judged, forms)
    if bench.markdown is not None:
        write_text(bench.markdown, "\n".join(lines) + "\n")
    return {"problems": [vars(problem) for problem in judged]}


def _judged(bench: FormsBench, forms: Sequence[str]) -> Iterator[Judged]:
    members = ["cnn", "patchcore", *_OTHERS]
    plans = sets_named(bench.sets)
    sets = [found for p in plans if (found := load_set(p, bench.data, bench.cache, members)) is not None]
    # All sets' first draws before any second.
    for seed in range(bench.draws):
        for of in sets:
            n_minority = int((of.labels == 1).sum())
            draw = draw_of(of.labels, of.groups, max(usable_counts(COUNTS, n_minority)), seed)
            problem = FewLabels.make(of, draw, 0)
            by_name = {plan.name: plan for plan in problem.config.members}
            ours = by_name["patchcore"]
            [loaded] = load_backbones(of.config, {ours.backbone}).values()
            parts = [[of.rows[i] for i in rows] for rows in (draw.majority, draw.test)]
            loaded.fill(problem.prepared, [*parts[0], *parts[1]], of.config.decode, "cpu")
            train, test = (loaded.rows(problem.prepared, rows, of.config.decode) for rows in parts)
            settings = settings_class(ours.type)
            wanted = {name: ours.model_copy(update={"settings": settings(**FORMS[name])}) for name in forms}
            wanted |= {name: by_name[name] for name in _OTHERS}
            scores = {
                name: _scores(plan, train, test, seed, bench.cache / "forms") for name, plan in wanted.items()
            }
            labels = of.labels[draw.test]
            others = sum(scores[name] for name in _OTHERS)
            yield Judged(
                of.name,
                {name: _auroc(labels, score) for name, score in scores.items()},
                {name: _auroc(labels, others + scores[name]) for name in forms},
            )


def _scores(plan: MemberPlan, train: ImageRows, test: ImageRows, seed: int, folder: Path) -> FloatArray:
    """``[n]`` scores of ``test`` by a fit on ``train``, or what an earlier call left."""
    facts = [plan.identity(), digest_of_code("oneclass"), train.digests.tolist(), test.digests.tolist(), seed]
    path = folder / f"{digest_of(facts)}.npz"
    try:
        return read_arrays(path)[0]["scores"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        member = build_member(plan.type, plan.settings, plan.backbone)
        scores = member.fit(train, FitContext(seed)).score(test)[:, 0]
        write_arrays(path, {"scores": scores}, {})
        return scores


def _auroc(labels: LabelArray, scores: FloatArray) -> float:
    return float(roc_auc_score(labels, scores))


def _log_error(auroc_of_form: float) -> float:
    return float(np.log(1.0 - auroc_of_form + _FLOOR))


def _page(judged: Sequence[Judged], forms: Sequence[str]) -> list[str]:
    sets = [problem.data_set for problem in judged]

    def differences(kind: str, form: str) -> Interval:
        logs = [[_log_error(getattr(p, kind)[name]) for name in (forms[0], form)] for p in judged]
        return interval_of(np.array([new - old for old, new in logs]), sets)

    lines = [
        f"Mean AUROC of {len(judged)} draws of {len(set(sets))} sets. *Difference*: of the log ranking error "
        f"from *{forms[0]}*,",
        "less is better, with a 95 % interval from drawing sets and draws again.",
        "",
        "| PatchCore | alone | difference | in the plain mean | difference |",
        "|---|---:|---:|---:|---:|",
    ]
    for form in forms:
        cells = []
        for kind in ("alone", "fused"):
            found = differences(kind, form)
            cells.append(f"{np.mean([getattr(p, kind)[form] for p in judged]):.3f}")
            cells.append(f"{found.mean:+.2f} ({found.low:+.2f} … {found.high:+.2f})")
        lines.append(f"| {form} | {' | '.join(cells)} |")
    shown = [*forms, *_OTHERS]
    lines += ["", f"| set | {' | '.join(shown)} |", f"|---|{'---:|' * len(shown)}"]
    for name in dict.fromkeys(sets):
        mine = [p.alone for p in judged if p.data_set == name]
        lines.append(f"| {name} | {' | '.join(f'{np.mean([p[k] for p in mine]):.3f}' for k in shown)} |")
    return lines
