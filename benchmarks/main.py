"""``make bench``: the selection of the bank, and scoring; interleaved runs, medians, ratios."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from export.scoring import load_model, score_images
from oneclass.coreset import cover_radius, k_center_greedy

_REPEATS = 3
_SCORED_IMAGES = 512
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


def bench_scoring(model_path: Path) -> None:
    """Images a second of the graph alone on one thread, and from JPEG files to parquet."""
    model = load_model(model_path)
    size = model.decode.size
    generator = np.random.default_rng(0)
    batch = generator.integers(0, 256, (16, size, size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(_SCORED_IMAGES):
            small = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(small).resize((256, 256)).save(folder / f"{i:05}.jpg")

        def inference() -> float:
            started = time.perf_counter()
            for _ in range(8):
                model.run(batch)
            return 8 * len(batch) / (time.perf_counter() - started)

        def folder_to_parquet(processes: int) -> Callable[[], float]:
            def run() -> float:
                out = folder / "scores"
                return score_images(
                    model_path, [folder], out, processes=processes, overwrite=True
                ).images_per_second

            return run

        model.run(batch)
        rates = interleaved(
            {
                "graph alone, 1 thread": inference,
                "folder to parquet, 1 process": folder_to_parquet(1),
                "folder to parquet, 2 processes": folder_to_parquet(2),
            }
        )
    table = Table(title=f"scoring {model_path}, 256-px JPEGs; median of {_REPEATS}")
    for heading in ("what", "images/s", "ratio"):
        table.add_column(heading, justify="right")
    base = next(iter(rates.values()))
    for what, rate in rates.items():
        table.add_row(what, f"{rate:.0f}", f"{rate / base:.2f}x")
    console.print(table)


def main() -> None:
    """Run what can be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("runs/elpv/quick/model.onnx"))
    arguments = parser.parse_args()
    console.print(f"{torch.get_num_threads()} threads; torch {torch.__version__}")
    bench_coreset()
    if arguments.model.exists():
        bench_scoring(arguments.model)
    else:
        console.print(f"{arguments.model} is not there, so scoring is not timed: run make demo first.")


if __name__ == "__main__":
    main()
