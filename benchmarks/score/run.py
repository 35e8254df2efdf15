"""``python -m benchmarks score``: images per second of the graph alone, folder to parquet, and others.

All cases are measured in one run, in turn, round after round, so a machine that slows down affects all of
them alike; trust the ratios more than the figures. The graph alone runs in as many single-threaded
processes as the scorer uses, so the difference between the two is the cost of decoding and writing.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import peak_memory_mb
from benchmarks.peaks import gemm_peaks
from benchmarks.score.anomalib import ENGINE_PREDICT, anomalib_cases
from benchmarks.score.page import as_markdown, drawn, show
from contracts.errors import OutnumberedError, UsageError
from contracts.files import write_text
from contracts.machine import processor, usable_cpus
from export.scoring.model import RUNTIMES, load_model
from export.scoring.probe import check_probe
from export.scoring.run import score_images
from export.scoring.shard import DEFAULT_BATCH_SIZE
from imagedata.decoding.decode import decode_file
from reporting.terminal import console, note
from workflow.run.state import Run
from workflow.settings.config import RunOptions

JPEG_SIZE = 256
_JPEG_QUALITY = 90
_TORCH_BATCH = 16
_TORCH_IMAGES = 512
"""Of the slow ways as many are enough to tell their rate."""
_GRAPH_IMAGES = 64
_SECONDS_A_ROUND = 4.0

Case = Callable[[], float]


@dataclass(frozen=True)
class ScoreBench:
    """What is measured.

    Attributes:
        images: JPEG files of :data:`JPEG_SIZE` pixels that are scored.
        rounds: times that every case is run.
        processes: single-threaded processes.
        anomalib: whether anomalib's PatchCore on the same backbone is measured, too; its fit takes minutes.
        markdown: page to write, or None.
        beside: exported files of other runs on the same data, such as one fitted on int8 features.
        plot: SVG file for AUROC over speed, or None.
    """

    images: int = 512
    rounds: int = 3
    processes: int | None = None
    anomalib: bool = False
    markdown: Path | None = None
    beside: tuple[Path, ...] = ()
    plot: Path | None = None


def bench_score(options: RunOptions, bench: ScoreBench) -> dict[str, Any]:
    """Measure a finished run's files.

    Args:
        options: which run; every ``model*.onnx`` of its folder is measured in every installed runtime, and so
            are the files beside it.
        bench: how much.

    Returns:
        ``{machine, processes, gemm_gflops, gflop_per_image, start_seconds, peak_memory_mb, rows}``; a row
        is a case with its median rate, all its rates, how many times as fast as ``Engine.predict`` it is
        where that was measured and, for exported files, AUROC, size and share of the peak.

    Raises:
        ModelError: nothing trained or exported.
        UsageError: a figure out of range, or anomalib cannot have this backbone.
    """
    if bench.images < _GRAPH_IMAGES or bench.rounds < 1:
        raise UsageError(f"--images must be at least {_GRAPH_IMAGES}, and --rounds at least 1. Give more.")
    run = Run.open(options).require_ensemble()
    own = sorted(run.config.folder.glob("model*.onnx"))
    if not own:
        raise UsageError(f"{run.config.folder} holds no exported file. Run: {options.command('export')}")
    files = _files(own, bench.beside)
    processes = bench.processes or usable_cpus()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with console.status("writing JPEG files", spinner="dots"):
            jpegs = write_jpegs(run, folder / "images", bench.images)
        with console.status("matrix products", spinner="dots"):
            peaks = gemm_peaks(processes)
        cases: dict[str, Case] = {}
        facts: dict[str, dict[str, Any]] = {}
        for file in files:
            for runtime in RUNTIMES:
                try:
                    pool = stack.enter_context(_graph_processes(file.path, runtime, jpegs, processes))
                except OutnumberedError as error:
                    note(f"{file.path.name}, {runtime}: left out. {error}")
                    continue
                name = f"{file.name}, {runtime}"
                end_to_end = _folder_to_parquet(file.path, runtime, jpegs, folder / "scores", processes)
                for case, made in (("graph alone", pool), ("folder to parquet", end_to_end)):
                    cases[f"{name}: {case}"] = made
                    facts[f"{name}: {case}"] = file.facts(runtime)
        cases["torch and DataLoader, same members"] = _torch_loop(run, jpegs[:_TORCH_IMAGES], processes)
        if bench.anomalib:
            cases |= anomalib_cases(run.config, jpegs, folder / "anomalib", processes)
        rates = _in_turn(cases, bench.rounds)
        start = _start_seconds(own[0], jpegs[0], folder / "start", bench.rounds)
        memory = peak_memory_mb(
            [
                *_score_command(own[0], jpegs[0].parent, folder / "memory"),
                *("--processes", str(processes), "--batch-size", str(DEFAULT_BATCH_SIZE)),
            ]
        )
    document = {
        "dataset": run.config.spec.name,
        "recipe": run.config.recipe.name,
        "backbone": run.config.recipe.backbone.name,
        "image_size": run.config.recipe.backbone.image_size,
        "machine": f"{processor()}, {usable_cpus()} usable processors",
        "processes": processes,
        "jpegs": f"{len(jpegs)} of {JPEG_SIZE}x{JPEG_SIZE} pixels",
        "gemm_gflops": peaks,
        "gflop_per_image": files[0].gflop,
        "start_seconds": start,
        "peak_memory_mb": memory,
        "rows": _rows(rates, facts, peaks["fp32"]),
    }
    show(document)
    if bench.markdown is not None:
        write_text(bench.markdown, as_markdown(document, _command(options, bench)))
    if bench.plot is not None:
        write_text(bench.plot, drawn(document))
    return document


def _command(options: RunOptions, bench: ScoreBench) -> str:
    flags = ["--anomalib"] if bench.anomalib else []
    flags += [word for path in bench.beside for word in ("--beside", str(path))]
    if bench.images != ScoreBench.images:
        flags += ["--images", str(bench.images)]
    if bench.rounds != ScoreBench.rounds:
        flags += ["--rounds", str(bench.rounds)]
    return options.command("score", *flags).replace("cli.py", "-m benchmarks", 1)


@dataclass(frozen=True)
class _File:
    """An exported file that is measured.

    Attributes:
        name: of its rows; tells it from the other files.
        path: the file.
        document: its metadata.
        gflop: 10^9 operations per image.
    """

    name: str
    path: Path
    document: dict[str, Any]
    gflop: float

    def facts(self, runtime: str) -> dict[str, Any]:
        """``{auroc, megabytes, gflop}``.

        The AUROC is its run's on the judged images; a variant made after training (bf16, int8) has its own,
        by its gate in this runtime. None where neither was measured.
        """
        of_gate = (self.document.get("gate") or {}).get(runtime)
        auroc = of_gate["auroc"] if of_gate else (self.document.get("metrics") or {}).get("auroc")
        return {
            "auroc": None if auroc is None else float(auroc),
            "megabytes": self.path.stat().st_size / 1e6,
            "gflop": self.gflop,
        }


def _files(own: Sequence[Path], beside: Sequence[Path]) -> list[_File]:
    """The run's files and the others, each with a name of its own.

    Raises:
        UsageError: a file besides the run's that does not exist.
        ModelError: a file that is no model.
    """
    for path in beside:
        if not path.is_file():
            raise UsageError(
                f"--beside {path}: no such file. Give an exported file, such as runs/elpv/quick/model.onnx."
            )
    files: list[_File] = []
    for path in (*own, *beside):
        model = load_model(path)
        name = path.stem + (" fitted in int8" if model.document.get("int8_backbones") else "")
        if name in {each.name for each in files}:
            name = f"{name} ({path.parent})"
        files.append(_File(name, path, model.document, _gflop(path)))
    return files


def _rows(
    rates: dict[str, list[float]], facts: dict[str, dict[str, Any]], fp32_peak: float
) -> list[dict[str, Any]]:
    """One row per case: its median rate, and how that compares with anomalib and with the machine's peak."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    theirs = medians.get(ENGINE_PREDICT)
    return [
        {
            "case": name,
            "images_per_second": median,
            "all": rates[name],
            "times_engine_predict": None if theirs is None else median / theirs,
            "auroc": facts[name]["auroc"] if name in facts else None,
            "megabytes": facts[name]["megabytes"] if name in facts else None,
            "share_of_fp32_peak": median * facts[name]["gflop"] / fp32_peak if name in facts else None,
        }
        for name, median in medians.items()
    ]


def write_jpegs(run: Run, folder: Path, count: int) -> list[Path]:
    """Test images as JPEG files of one size; links to the same files where there are too few."""
    from PIL import Image

    folder.mkdir(parents=True)
    rows = run.data.test[:count]
    made = []
    for number, row in enumerate(rows):
        pixels = decode_file(run.data.file_of(row), run.config.decode).pixels
        target = folder / f"{number:06}.jpg"
        Image.fromarray(pixels).resize((JPEG_SIZE, JPEG_SIZE)).save(target, quality=_JPEG_QUALITY)
        made.append(target)
    for number in range(len(made), count):
        target = folder / f"{number:06}.jpg"
        os.link(made[number % len(rows)], target)
        made.append(target)
    return made


def _in_turn(cases: dict[str, Case], rounds: int) -> dict[str, list[float]]:
    """Images per second of every case in every round; the first pass of each warms up and is not kept."""
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            with console.status(f"round {number} of {rounds}: {name}", spinner="dots"):
                rate = case()
            if number:
                rates[name].append(rate)
    return rates


@contextmanager
def _graph_processes(path: Path, runtime: str, jpegs: Sequence[Path], processes: int) -> Iterator[Case]:
    """Processes that hold the graph and some decoded images, and run them when told to."""
    check_probe(load_model(path, runtime=runtime))  # says here, in words, why it cannot
    context = multiprocessing.get_context("spawn")
    workers: list[tuple[SpawnProcess, Connection]] = []
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            worker = context.Process(
                target=_graph_worker, args=(path, runtime, list(jpegs[:_GRAPH_IMAGES]), theirs), daemon=True
            )
            worker.start()
            theirs.close()
            workers.append((worker, ours))
        for _, pipe in workers:
            pipe.recv()

        def run() -> float:
            for _, pipe in workers:
                pipe.send(_SECONDS_A_ROUND)
            return float(sum(pipe.recv() for _, pipe in workers))

        yield run
    finally:
        for worker, pipe in workers:
            pipe.close()
            worker.join(5)
            worker.kill()


def _graph_worker(path: Path, runtime: str, jpegs: list[Path], driver: Connection) -> None:
    """Decode once, then score the same pixels for as long as is asked; answers with images per second."""
    model = load_model(path, runtime=runtime)
    pixels = np.stack([decode_file(jpeg, model.decode).pixels for jpeg in jpegs])
    model.run(pixels[:DEFAULT_BATCH_SIZE])
    driver.send("ready")
    while True:
        try:
            seconds = driver.recv()
        except EOFError:
            return
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            first = done % len(pixels)
            done += len(model.run(pixels[first : first + DEFAULT_BATCH_SIZE]).decision)
        driver.send(done / (time.perf_counter() - started))


def _folder_to_parquet(path: Path, runtime: str, jpegs: list[Path], output: Path, processes: int) -> Case:
    def run() -> float:
        summary = score_images(
            path,
            [jpegs[0].parent],
            output,
            processes=processes,
            batch_size=DEFAULT_BATCH_SIZE,
            runtime=runtime,
            overwrite=True,
        )
        return summary.images_per_second

    return run


def _torch_loop(run: Run, jpegs: list[Path], threads: int) -> Case:
    """The same members in torch, fed by a DataLoader, as most people would score."""
    import torch
    from torch.utils.data import DataLoader

    from workflow.ensembling.model_file import fused_graph

    graph = fused_graph(run).eval()
    settings = run.config.decode
    fitted = run.fitted
    of_probability = [fitted.deployment_prior] if fitted.has_probability else []
    levels = () if fitted.levels is None else fitted.levels.rates
    given = [*of_probability, fitted.threshold, *levels]
    inputs = [torch.tensor(value, dtype=torch.float32) for value in given]

    class Files(torch.utils.data.Dataset[torch.Tensor]):
        """JPEG files, decoded as they are asked for."""

        def __len__(self) -> int:
            return len(jpegs)

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.from_numpy(decode_file(jpegs[index], settings).pixels)

    def score() -> float:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        started = time.perf_counter()
        with torch.inference_mode():
            for batch in DataLoader(Files(), batch_size=_TORCH_BATCH):
                graph(batch, *inputs)
        torch.set_num_threads(before)
        return len(jpegs) / (time.perf_counter() - started)

    return score


def _gflop(path: Path) -> float:
    """10^9 operations per image, of the whole graph."""
    from export.graph_parts import inspect_graph

    return float(sum(part.gflop for part in inspect_graph(load_model(path))))


def _score_command(model: Path, images: Path, output: Path) -> list[str]:
    """What users type to score."""
    program = Path(__file__).resolve().parents[2] / "cli.py"
    words = [sys.executable, program, "score", model, images, "--output", output, "--overwrite"]
    return [str(word) for word in words]


def _start_seconds(model: Path, image: Path, output: Path, rounds: int) -> float:
    """Median seconds from starting Python to the first row on disk, by the command that users give."""
    command = _score_command(model, image, output)
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])
