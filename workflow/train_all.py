"""``train-all`` and ``train``: fit members on every fold and on all rows, and keep what they say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.table import Table

from contracts.errors import MemberCollapsedError
from contracts.member import FitContext
from contracts.rows import ImageRows
from workflow.config import RunConfig, RunOptions, resolve_config
from workflow.console import console, note, progress_bar
from workflow.devices import pick_device
from workflow.facts import print_data_facts
from workflow.prepare import PreparedData, prepare_data, save_prepared
from workflow.registry import build_member
from workflow.units import FINAL, Unit, UnitResult, read_result, units_of


@dataclass(frozen=True)
class TrainSummary:
    """What a training command did.

    Attributes:
        dataset: name.
        recipe: name.
        folder: the run folder.
        units_done: finished before and now.
        units_run: finished now.
        seconds: wall time of this call.
        left_out: member → why it is left out of the ensemble.
    """

    dataset: str
    recipe: str
    folder: str
    units_done: int
    units_run: int
    seconds: float
    left_out: dict[str, str]


def train_all(options: RunOptions, only: Sequence[str] = ()) -> TrainSummary:
    """Train the recipe's members, or some of them; goes on where an earlier call stopped.

    Args:
        options: data set, recipe and the rest of the command line.
        only: names of the members to train; all when empty.

    Raises:
        UsageError, DataError, ModelError: with one sentence each.
    """
    started = time.monotonic()
    config = resolve_config(options)
    members = tuple(config.member(name) for name in only) or config.members
    data = prepare_data(config)
    save_prepared(config, data)
    print_data_facts(config, data)
    units = units_of(config, data, members)
    pending = [unit for unit in units if read_result(unit) is None]
    if pending:
        run_units(config, data, pending)
    else:
        note(f"Nothing to do: all {len(units)} units of {config.folder} are trained.")
    left_out = print_members(data, units)
    if not only:
        note(f"Next: {options.command('ensemble')}")
    return TrainSummary(
        dataset=config.spec.name,
        recipe=config.recipe.name,
        folder=str(config.folder),
        units_done=len(units),
        units_run=len(pending),
        seconds=round(time.monotonic() - started, 3),
        left_out=left_out,
    )


def run_units(config: RunConfig, data: PreparedData, pending: list[Unit]) -> None:
    """Compute missing features, then every pending unit."""
    # torch is imported from here on, and only when there is work.
    from workflow.trunks import load_trunks

    device = pick_device(config.options.device)
    trunks = load_trunks(config, {unit.member.trunk for unit in pending})
    for loaded in trunks.values():
        started = time.monotonic()
        computed = loaded.fill(data, data.train + data.test, config.decode, device)
        if computed:
            seconds = time.monotonic() - started
            rate = computed / seconds
            note(f"Features of {computed} images computed in {seconds:.0f} s ({rate:.0f} images/s).")
    with progress_bar("training", len(pending)) as bar:
        for unit in pending:
            bar.describe(unit.label)
            loaded = trunks[unit.member.trunk]
            train = loaded.rows(data, data.train, config.decode)
            test = loaded.rows(data, data.test, config.decode)
            run_unit(unit, train, test, data.fold_of_row, device).write(unit)
            bar.advance()


def run_unit(
    unit: Unit, train: ImageRows, test: ImageRows, fold_of_row: npt.NDArray[np.int64], device: str
) -> UnitResult:
    """Fit on the rows the fold leaves, score the rows it holds out; the final unit scores the test split.

    Args:
        unit: which member, which fold.
        train: all training rows.
        test: the held-out split.
        fold_of_row: ``[N]`` fold of each training row.
        device: ``cpu`` or ``cuda``.
    """
    started = time.monotonic()
    sentences: list[str] = []
    member = build_member(unit.member.type, unit.member.settings, unit.member.trunk)
    context = FitContext(seed=unit.seed, device=device, report=sentences.append)
    if unit.fold == FINAL:
        fit_rows: ImageRows = train
        score_rows = test
    else:
        fit_rows = train.subset(np.flatnonzero(fold_of_row != unit.fold))
        score_rows = train.subset(np.flatnonzero(fold_of_row == unit.fold))
    try:
        member.fit(fit_rows, context)
    except MemberCollapsedError as collapse:
        nothing = np.full((len(score_rows), 1), np.nan, dtype=np.float32)
        return UnitResult(nothing, {}, {}, time.monotonic() - started, 0.0, sentences, str(collapse))
    fitted = time.monotonic()
    scores = member.score(score_rows)
    now = time.monotonic()
    state, meta = member.state() if unit.fold == FINAL else ({}, {})
    milliseconds = 1000 * (now - fitted) / len(score_rows)
    return UnitResult(scores, state, meta, now - started, milliseconds, sentences, "")


def print_members(data: PreparedData, units: list[Unit]) -> dict[str, str]:
    """Print a line a member; returns why members are left out."""
    from workflow.multiclass import out_of_fold_figure

    labels, n_classes = data.labels(data.train), len(data.manifest.class_names)
    auroc = "out-of-fold AUROC" if n_classes == 2 else "out-of-fold macro AUROC"
    table = Table(title="Members, scored on training rows that each fold held out")
    for heading in ("member", "kind", auroc, "seconds", "notes"):
        table.add_column(heading, justify="right" if heading in {auroc, "seconds"} else "left")
    left_out: dict[str, str] = {}
    for name in dict.fromkeys(unit.member.name for unit in units):
        mine = [unit for unit in units if unit.member.name == name]
        results = [(unit, result) for unit in mine if (result := read_result(unit)) is not None]
        collapsed = next((result.collapsed for _, result in results if result.collapsed), "")
        seconds = sum(result.seconds for _, result in results)
        if collapsed:
            left_out[name] = collapsed
            figure = "left out"
        else:
            scores = np.empty((len(data.train), results[0][1].scores.shape[1]), dtype=np.float64)
            for unit, result in results:
                if unit.fold != FINAL:
                    scores[data.fold_of_row == unit.fold] = result.scores
            figure = out_of_fold_figure(labels, scores, n_classes)
        sentences = [sentence for _, result in results for sentence in result.sentences]
        more = f" (+{len(sentences) - 1})" if len(sentences) > 1 else ""
        remark = collapsed or "".join(sentences[:1]) + more
        table.add_row(name, mine[0].member.type, figure, f"{seconds:.1f}", remark)
    console.print(table)
    return left_out
