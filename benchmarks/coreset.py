"""``python -m benchmarks coreset``: our selection beside anomalib's, on the same points, in one run.

Every selection runs in a process of its own, so that one's memory cannot hide in what another has freed.
Runs are interleaved (ours before and after anomalib's), and times are medians: a machine that slows down
affects both alike.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import statistics
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from rich.table import Table

from contracts.errors import DataError, UsageError
from contracts.machine import usable_cpus
from reporting.terminal import console, note

if TYPE_CHECKING:
    from torch import Tensor

# Above this many point-centre pairs a whole selection of anomalib's takes most of an hour.
_MOST_PAIRS_IN_FULL = 300_000_000
_TIMED_ITERATIONS = 200
_SAMPLE_SECONDS = 0.002

T = TypeVar("T")
Selection = Literal["ours", "anomalib"]


@dataclass(frozen=True)
class CoresetCase:
    """What is selected from what.

    Attributes:
        points: P; standard normal numbers, the hardest case for skipping comparisons.
        dim: D.
        centers: k.
        seed: of the points and of the first centre.
        threads: of every selection.
        file: ``.npy`` file of ``[P, D]`` points to use instead.
    """

    points: int
    dim: int
    centers: int
    seed: int
    threads: int
    file: Path | None = None


@dataclass(frozen=True)
class CoresetRun:
    """One selection.

    Attributes:
        seconds: of the whole selection, extrapolated where ``iterations`` is not None.
        extra_mib: most memory the process held during the selection beyond what it held before, MiB.
        selected: positions in the order of selection.
        measured_dim: coordinates that distances were computed in.
        iterations: those that were timed; None where all were.
    """

    seconds: float
    extra_mib: float
    selected: list[int]
    measured_dim: int
    iterations: int | None = None


def bench_coreset(
    points: int,
    dim: int,
    centers: int,
    seed: int = 0,
    repeats: int = 1,
    file: Path | None = None,
    iterations: int | None = None,
) -> dict[str, Any]:
    """Print both selections side by side.

    Args:
        points: P.
        dim: D.
        centers: k.
        seed: of points and first centre.
        repeats: runs of anomalib's selection; ours runs once more.
        file: points to use instead of random ones; then P and D are its own.
        iterations: extrapolate anomalib's time from so many; None runs it in full, unless that would take
            most of an hour, and extrapolates from 200 otherwise.

    Returns:
        The figures, for ``--json``.

    Raises:
        UsageError: more centres than points.
        DataError: the file holds no points.
    """
    case = _checked(CoresetCase(points, dim, centers, seed, usable_cpus(), file))
    if iterations is None and case.points * case.centers > _MOST_PAIRS_IN_FULL:
        iterations = _TIMED_ITERATIONS
    if iterations is not None and iterations + 2 >= case.centers:
        iterations = None
    load = os.getloadavg()[0]
    note(
        f"{case.points:,} points x {case.dim} to {case.centers:,} centres, {case.threads} threads; "
        f"load before the runs {load:.1f}."
    )
    runs: dict[Selection, list[CoresetRun]] = {"ours": [], "anomalib": []}
    plan: list[Selection] = ["ours", *(("anomalib", "ours") * repeats)]
    for which in plan:
        note(f"Selecting: {which} …")
        run = _in_own_process(which, case, iterations)
        runs[which].append(run)
        said = f" (extrapolated from {run.iterations} iterations)" if run.iterations else ""
        note(f"  {run.seconds:.2f} s{said}, {run.extra_mib:.0f} MiB beyond the points.")
    document = _document(case, runs, load)
    _print(document)
    return document


def _checked(case: CoresetCase) -> CoresetCase:
    if case.file is not None:
        try:
            array = np.load(case.file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{case.file}: cannot be read as a .npy file ({error}). Name another.") from error
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
            raise DataError(
                f"{case.file}: holds {array.dtype} of shape {array.shape}. Name one of float points [P, D]."
            )
        case = replace(case, points=array.shape[0], dim=array.shape[1])
    if case.centers >= case.points:
        raise UsageError(
            f"{case.centers} centres of {case.points} points leave nothing to choose. "
            "Give fewer --centers or more --points."
        )
    return case


def _in_own_process(which: Selection, case: CoresetCase, iterations: int | None) -> CoresetRun:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_run, which, case, iterations).result()


def points_of(case: CoresetCase) -> Tensor:
    """``[P, D]`` float32 points of a case."""
    import torch

    if case.file is not None:
        return torch.from_numpy(np.load(case.file, allow_pickle=False)).float()
    return torch.randn(case.points, case.dim, generator=torch.Generator().manual_seed(case.seed))


def _run(which: Selection, case: CoresetCase, iterations: int | None) -> CoresetRun:
    import torch

    torch.set_num_threads(case.threads)
    points = points_of(case)
    return _ours(points, case) if which == "ours" else _anomalib(points, case, iterations)


def _ours(points: Tensor, case: CoresetCase) -> CoresetRun:
    from oneclass.patchcore.coreset import k_center_greedy

    k_center_greedy(points[:512], 8, case.seed)  # what is loaded on first use is not the selection's
    started = time.perf_counter()
    selected, extra = extra_memory(lambda: k_center_greedy(points, case.centers, case.seed))
    return CoresetRun(time.perf_counter() - started, extra, selected.tolist(), points.shape[1])


def _anomalib(points: Tensor, case: CoresetCase, iterations: int | None) -> CoresetRun:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from anomalib.models.components.sampling import KCenterGreedy

    def select(n_centers: int) -> tuple[float, list[int], int, float]:
        # Its size is int(P * ratio); the half keeps rounding out of it.
        sampler = KCenterGreedy(points, (n_centers + 0.5) / len(points))
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            started = time.perf_counter()
            selected, extra = extra_memory(sampler.select_coreset_idxs)
        return time.perf_counter() - started, selected, sampler.features.shape[1], extra

    with torch.random.fork_rng():
        torch.manual_seed(case.seed)
        with contextlib.redirect_stderr(io.StringIO()):
            KCenterGreedy(points[:512], 0.02).select_coreset_idxs()
        if iterations is None:
            seconds, selected, dim, extra = select(case.centers)
            return CoresetRun(seconds, extra, selected, dim)
        # A selection of n centres is the projection and n - 1 iterations.
        once, *_ = select(2)
        timed, selected, dim, extra = select(iterations + 2)
    an_iteration = (timed - once) / iterations
    return CoresetRun(once + an_iteration * (case.centers - 2), extra, selected, dim, iterations)


def extra_memory(call: Callable[[], T]) -> tuple[T, float]:
    """Call, and return by how many MiB the process's resident memory rose.

    Linux counts every page, whoever allocated it, and reports the peak since its last reset; elsewhere a
    thread samples every two milliseconds.
    """
    before, peak = _resident_mib(), 0.0
    kernel_counts = _forget_peak()
    done = threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.wait(_SAMPLE_SECONDS):
            peak = max(peak, _resident_mib())

    watcher = None if kernel_counts else threading.Thread(target=look, daemon=True)
    if watcher is not None:
        watcher.start()
    try:
        result = call()
    finally:
        done.set()
        if watcher is not None:
            watcher.join()
    return result, max(0.0, (_status_mib("VmHWM") if kernel_counts else peak) - before)


def _forget_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _resident_mib() -> float:
    if Path("/proc/self/status").exists():
        return _status_mib("VmRSS")
    import psutil  # type: ignore[import-untyped]

    return float(psutil.Process().memory_info().rss) / 2**20


def _status_mib(key: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def _document(case: CoresetCase, runs: dict[Selection, list[CoresetRun]], load: float) -> dict[str, Any]:
    from oneclass.patchcore.coreset import cover_radius

    points = points_of(case)
    ours, theirs = runs["ours"][0], runs["anomalib"][0]
    n_compared = min(len(ours.selected), len(theirs.selected))
    selections: dict[str, Any] = {}
    for name, of_name in runs.items():
        first = of_name[0]
        selections[name] = {
            "seconds": round(statistics.median(run.seconds for run in of_name), 3),
            "seconds_of_runs": [round(run.seconds, 3) for run in of_name],
            "extrapolated_from_iterations": first.iterations,
            "measured_dim": first.measured_dim,
            "centers_compared": n_compared,
            "cover_radius": cover_radius(points, points[first.selected[:n_compared]]),
            "extra_mib": round(statistics.median(run.extra_mib for run in of_name), 1),
        }
    if n_compared < case.centers:
        selections["ours"]["cover_radius_of_all"] = cover_radius(points, points[ours.selected])
    kernel = Path("/proc/self/clear_refs").exists()
    return {
        **asdict(case),
        "file": None if case.file is None else str(case.file),
        "points_mib": round(points.numel() * points.element_size() / 2**20, 1),
        "load_before": round(load, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "memory_measured": "peak resident memory of the process less that before, "
        + ("by the kernel (VmHWM)" if kernel else "looked at every 2 ms"),
        "selections": selections,
        "times_as_fast": round(selections["anomalib"]["seconds"] / selections["ours"]["seconds"], 1),
        "memory_share": round(
            selections["ours"]["extra_mib"] / max(selections["anomalib"]["extra_mib"], 1e-9), 3
        ),
    }


def _print(document: dict[str, Any]) -> None:
    table = Table(
        title=f"k-centre greedy, {document['points']:,} x {document['dim']} to {document['centers']:,}"
    )
    for heading in ("selection", "seconds", "cover radius", "extra memory", "distances in"):
        table.add_column(heading, justify="left" if heading == "selection" else "right")
    for name, figures in document["selections"].items():
        mark = "*" if figures["extrapolated_from_iterations"] else ""
        table.add_row(
            name,
            f"{figures['seconds']:.2f}{mark}",
            f"{figures['cover_radius']:.4f}",
            f"{figures['extra_mib']:.0f} MiB",
            f"{figures['measured_dim']} dimensions",
        )
    console.print(table)
    note(
        f"Ours takes 1/{document['times_as_fast']:.0f} of the time and {document['memory_share']:.2f} of the "
        f"memory. Load after the runs: {document['load_after']:.1f}. Memory: {document['memory_measured']}."
    )
    theirs, ours = document["selections"]["anomalib"], document["selections"]["ours"]
    if theirs["extrapolated_from_iterations"]:
        note(
            f"* extrapolated from {theirs['extrapolated_from_iterations']} iterations and one projection. "
            f"Cover radii are of the first {theirs['centers_compared']} centres of each; of all "
            f"{document['centers']:,} of ours it is {ours['cover_radius_of_all']:.4f}."
        )
    if theirs["measured_dim"] != document["dim"]:
        note(
            f"Both are given the same points. anomalib measures its distances after a random projection to "
            f"{theirs['measured_dim']} dimensions (eps 0.9), which makes its order approximate and takes a "
            "projected copy; ours measures on the points. Cover radii are measured on the points for both."
        )
