"""``python -m benchmarks bank``: PatchCore's accuracy against the size of its bank, and the cost of the bank.

Banks of several sizes are fitted on each fold. Every figure is out-of-fold.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from contracts.errors import DataError, MemberCollapsedError, UsageError
from contracts.member import FitContext
from contracts.rows import LabelArray
from evaluation.bootstrap import replicate_weights
from evaluation.ranking import Ranking
from features.devices import pick_device
from reporting.terminal import console, note, progress_bar
from workflow.run.prepared import PreparedData, prepare_data, seed_of
from workflow.settings.config import RunConfig, RunOptions, resolve_config
from workflow.settings.recipe import MemberPlan

if TYPE_CHECKING:
    from contracts.rows import ImageRows

_LEAST = 100
_LEADING = (1, 2, 5)
_TOLERANCE = 0.005
_INTERVAL = (0.025, 0.975)

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BankFigure:
    """PatchCore with one size of bank.

    Attributes:
        size: patches.
        megabytes: that they take in the exported file, 1e6 bytes.
        ms_per_image: milliseconds of scoring an image here, beyond the backbone's.
        auroc: out of fold.
        low, high: its 95 % interval.
        difference: from the largest bank's AUROC.
        difference_low, difference_high: its 95 % interval, on the same replicates.
    """

    size: int
    megabytes: float
    ms_per_image: float
    auroc: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


def bench_bank(options: RunOptions, member: str = "patchcore", most: int = 8000) -> dict[str, Any]:
    """Print accuracy against bank size.

    Args:
        options: data set and recipe.
        member: a PatchCore of the recipe; its budget is set aside, its other settings hold.
        most: patches of the largest bank.

    Returns:
        The figures, for ``--json``.

    Raises:
        UsageError: the member is no PatchCore, or ``most`` is less than 100.
        DataError: a fold has no 100 different patches.
    """
    started = time.monotonic()
    config = resolve_config(options)
    plan = config.member(member)
    if plan.type != "patchcore":
        raise UsageError(f"member '{member}' is a {plan.type}. Name a patchcore with --member.")
    if most < _LEAST:
        raise UsageError(f"--most {most} is below the smallest bank, {_LEAST}. Give more.")
    data = prepare_data(config)
    sizes, scores, costs = _scores_by_size(config, plan, data, most)
    is_minority = (data.labels(data.train) == len(data.manifest.class_names) - 1).astype(np.int64)
    groups = _groups(data)
    figures = _figures(sizes, scores, costs, is_minority, groups, config.recipe.bootstrap, config.seed)
    enough = next(f for f in figures if f.difference_low >= -_TOLERANCE or f.size == figures[-1].size)
    _print(config, plan, figures, enough)
    return {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "member": plan.name,
        "folds": config.recipe.folds,
        "rows": len(is_minority),
        "minority": int(is_minority.sum()),
        "figures": [vars(figure) for figure in figures],
        "enough": enough.size,
        "seconds": round(time.monotonic() - started, 1),
    }


def bank_sizes(most: int) -> list[int]:
    """100, 200, 500, 1,000 … below ``most``, and ``most``."""
    sizes = [lead * 10**power for power in range(2, 8) for lead in _LEADING]
    return [size for size in sizes if size < most] + [most]


def _groups(data: PreparedData) -> npt.NDArray[np.int64]:
    from workflow.run.prepared import group_numbers

    return group_numbers(data.train)


def _scores_by_size(
    config: RunConfig, plan: MemberPlan, data: PreparedData, most: int
) -> tuple[list[int], dict[int, Scores], dict[int, tuple[float, float]]]:
    """Sizes that every fold can fill, out-of-fold scores ``[N]`` of each, and (megabytes, ms) of each."""
    from workflow.run.features import load_backbones

    device = pick_device(config.options.device)
    [loaded] = load_backbones(config, {plan.backbone}).values()
    loaded.fill(data, data.train, config.decode, device)
    rows = loaded.rows(data, data.train, config.decode)
    wanted = bank_sizes(most)
    scores = {size: np.full(len(rows), np.nan) for size in wanted}
    costs: dict[int, tuple[float, float]] = {}
    largest = most
    with progress_bar("folds", config.recipe.folds) as bar:
        for fold in range(config.recipe.folds):
            held_out = data.fold_of_row == fold
            fit_rows = rows.subset(np.flatnonzero(~held_out))
            score_rows = rows.subset(np.flatnonzero(held_out))
            context = FitContext(seed_of(config.seed, plan.name, fold), device, note)
            largest = min(largest, _one_fold(plan, fit_rows, score_rows, context, held_out, scores, costs))
            bar.advance()
    sizes = [size for size in wanted if size < largest] + [largest]
    if largest < _LEAST:
        raise DataError(f"a fold has no {_LEAST} different patches, only {largest}. Give more images.")
    return [size for size in sizes if size in costs], scores, costs


def _one_fold(
    plan: MemberPlan,
    fit_rows: ImageRows,
    score_rows: ImageRows,
    context: FitContext,
    held_out: npt.NDArray[np.bool_],
    scores: dict[int, Scores],
    costs: dict[int, tuple[float, float]],
) -> int:
    """Fit a bank of each size on a fold, smallest first; return the size that the largest reached."""
    from oneclass.patchcore.bank_budget import bank_bytes_per_patch, milliseconds_per_image
    from oneclass.patchcore.member import PatchCore
    from oneclass.patchcore.settings import PatchCoreSettings

    given = plan.settings.model_dump(exclude={"bank_size", "bank_ratio", "bank_mb", "bank_ms"})
    reached = 0
    for size, of_size in scores.items():
        # A smaller bank is the beginning of a larger one, but what is usual around its patches is not.
        member = PatchCore(PatchCoreSettings(**given, bank_size=size))
        try:
            module = member.fit(fit_rows, context).raw_module()
        except MemberCollapsedError as collapse:
            raise DataError(f"{collapse} There is no curve to draw.") from collapse
        # Where there are no more patches than that, the bank of all of them stands for the larger ones.
        reached = len(module.bank)
        of_size[held_out] = member.score(score_rows)[:, 0]
        if size not in costs:
            dim, grid = module.bank.shape[1], fit_rows.shapes.patch_grid
            megabytes = size * bank_bytes_per_patch(member.settings, dim, grid) / 1e6
            costs[size] = (megabytes, milliseconds_per_image(module, fit_rows.shapes))
    return reached


def _figures(
    sizes: list[int],
    scores: dict[int, Scores],
    costs: dict[int, tuple[float, float]],
    is_minority: LabelArray,
    groups: npt.NDArray[np.int64],
    n_replicates: int,
    seed: int,
) -> list[BankFigure]:
    whole = np.ones((len(is_minority), 1))
    of_size = {size: Ranking(is_minority == 1, scores[size]) for size in sizes}
    point = {size: float(ranking(whole)[0][0]) for size, ranking in of_size.items()}
    blocks: dict[int, list[npt.NDArray[np.float64]]] = {size: [] for size in sizes}
    for weights in replicate_weights(is_minority, groups, n_replicates=n_replicates, seed=seed):
        weights_NB = np.ascontiguousarray(weights.T)
        for size, ranking in of_size.items():
            blocks[size].append(ranking(weights_NB)[0])
    drawn = {size: np.concatenate(parts) for size, parts in blocks.items()}
    largest = sizes[-1]
    figures = []
    for size in sizes:
        low, high = np.quantile(drawn[size], _INTERVAL)
        difference_low, difference_high = np.quantile(drawn[size] - drawn[largest], _INTERVAL)
        figures.append(
            BankFigure(
                size,
                *costs[size],
                point[size],
                float(low),
                float(high),
                point[size] - point[largest],
                float(difference_low),
                float(difference_high),
            )
        )
    return figures


def _print(config: RunConfig, plan: MemberPlan, figures: list[BankFigure], enough: BankFigure) -> None:
    table = Table(title=f"{plan.name} on {config.spec.name}: out-of-fold AUROC by bank size")
    for heading in ("bank", "MB", "ms/image", "AUROC", "95 % interval", "less the largest bank's"):
        table.add_column(heading, justify="right")
    for figure in figures:
        table.add_row(
            f"{figure.size:,}",
            f"{figure.megabytes:.2f}",
            f"{figure.ms_per_image:.2f}",
            f"{figure.auroc:.4f}",
            f"{figure.low:.4f} … {figure.high:.4f}",
            f"{figure.difference:+.4f} ({figure.difference_low:+.4f} … {figure.difference_high:+.4f})",
        )
    console.print(table)
    note(
        f"{enough.size:,} patches are the smallest bank that is certain not to lose more than {_TOLERANCE} "
        f"AUROC: -o members.{plan.name}.bank_size={enough.size}. ms/image is by torch, beyond the backbone's."
    )
