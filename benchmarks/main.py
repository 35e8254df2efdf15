"""``make bench``: the selection of the bank, and ``bench score``; interleaved runs, medians, ratios."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.score import ScoreBench, bench_score
from oneclass.patchcore.coreset import cover_radius, k_center_greedy
from workflow.settings.config import RunOptions

_REPEATS = 3
console = Console()


def interleaved(cases: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Median of what each case returns, the cases run in turn so that a drifting machine is fair to all."""
    results: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(_REPEATS):
        for name, case in cases.items():
            results[name].append(case())
    return {name: statistics.median(values) for name, values in results.items()}


def plain_greedy(points: torch.Tensor, n_centers: int, first: int) -> torch.Tensor:
    """K-centre greedy as it is usually written: one pass over all points for each centre."""
    selected = [first]
    nearest = torch.cdist(points, points[first : first + 1])[:, 0]
    for _ in range(n_centers - 1):
        farthest = int(nearest.argmax())
        selected.append(farthest)
        torch.minimum(nearest, torch.cdist(points, points[farthest : farthest + 1])[:, 0], out=nearest)
    return torch.tensor(selected)


def bench_coreset(n_points: int = 50_000, dim: int = 128, n_centers: int = 2_000) -> None:
    """Time to select a bank of the default size."""
    points = torch.randn(n_points, dim, generator=torch.Generator().manual_seed(0))
    chosen: dict[str, torch.Tensor] = {}

    def ours() -> float:
        started = time.perf_counter()
        chosen["ours"] = k_center_greedy(points, n_centers, seed=0)
        return time.perf_counter() - started

    def plain() -> float:
        started = time.perf_counter()
        first = int(torch.randint(n_points, (1,), generator=torch.Generator().manual_seed(0)))
        chosen["plain"] = plain_greedy(points, n_centers, first)
        return time.perf_counter() - started

    seconds = interleaved({"ours": ours, "plain": plain})
    table = Table(title=f"k-centre greedy, {n_points:,} x {dim} to {n_centers:,}; median of {_REPEATS}")
    for heading in ("selection", "seconds", "cover radius", "ratio"):
        table.add_column(heading, justify="right")
    for name, value in seconds.items():
        radius = cover_radius(points, points[chosen[name]])
        table.add_row(name, f"{value:.2f}", f"{radius:.4f}", f"{seconds['plain'] / value:.1f}x")
    console.print(table)


def main() -> None:
    """Run what can be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="elpv", help="a data set whose quick run is exported")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    console.print(f"{torch.get_num_threads()} threads; torch {torch.__version__}")
    bench_coreset()
    if (arguments.runs / arguments.dataset / "quick" / "model.onnx").exists():
        bench_score(RunOptions(arguments.dataset, runs=arguments.runs), ScoreBench(anomalib=True))
    else:
        console.print(
            f"{arguments.dataset} has no exported run below {arguments.runs}, so scoring is not timed: "
            "run make demo first."
        )


if __name__ == "__main__":
    main()
