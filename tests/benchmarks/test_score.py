"""``python -m benchmarks score``: every case is measured on the same files; the page names the command."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory import peak_memory_mb
from benchmarks.peaks import gemm_peaks
from tests.conftest import Outcome, Run, run_benchmark


def bench_score(run: Run, *options: object) -> Outcome:
    return run_benchmark("score", run.dataset, "--recipe", run.recipe, "--runs", run.runs, *options)


def test_peaks_are_positive_and_leave_threads_as_they_were():
    import torch

    before = torch.get_num_threads()
    peaks = gemm_peaks(1)
    assert set(peaks) == {"fp32", "bf16", "int8"}
    assert all(rate > 0 for rate in peaks.values())
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_every_file_and_way_has_a_row(fitted: tuple[Run, Outcome], tmp_path):
    run = fitted[0].copy(tmp_path)
    page = tmp_path / "scoring.md"
    beside = tmp_path / "beside.onnx"
    shutil.copy(run.folder / "model.onnx", beside)
    plot = tmp_path / "scoring.svg"
    words = ("--beside", beside, "--markdown", page, "--plot", plot, "--json")
    outcome = bench_score(run, "--images", "64", "--rounds", "1", *words)
    assert outcome.code == 0, outcome.err
    rows = {row["case"]: row for row in outcome.json["rows"]}
    auroc = outcome.json["rows"][0]["auroc"]
    for name in ("model", "beside"):
        assert rows[f"{name}, onnxruntime: folder to parquet"]["auroc"] == auroc > 0
        assert rows[f"{name}, onnxruntime: folder to parquet"]["megabytes"] == beside.stat().st_size / 1e6
        assert f"{name}, onnxruntime" in plot.read_text()
    for case in (
        "model, onnxruntime: graph alone",
        "model, onnxruntime: folder to parquet",
        "torch and DataLoader, same members",
    ):
        assert rows[case]["images_per_second"] > 0
    assert outcome.json["gflop_per_image"] > 0
    assert outcome.json["start_seconds"] > 0
    assert "| model, onnxruntime: graph alone |" in page.read_text()
    assert "Made by `python -m benchmarks score " in page.read_text()


def test_memory_counts_a_command_with_all_that_it_starts():
    """Two processes of 60 MB beside the one that started them."""
    hog = "import time; kept = b'x' * 60_000_000; time.sleep(1)"
    start = (
        "import subprocess, sys; "
        f"[p.wait() for p in [subprocess.Popen([sys.executable, '-c', {hog!r}]) for _ in '12']]"
    )
    peak = peak_memory_mb([sys.executable, "-c", start])
    assert peak is None or 120 < peak < 300


def test_a_command_that_fails_is_not_measured():
    if Path("/proc/self/stat").exists():
        with pytest.raises(subprocess.CalledProcessError):
            peak_memory_mb([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_file_beside_that_does_not_exist_is_refused(fitted: tuple[Run, Outcome]):
    outcome = bench_score(fitted[0], "--beside", "nowhere.onnx")
    assert outcome.code == 2
    assert "--beside nowhere.onnx: no such file" in outcome.said


def test_too_few_images_are_refused(fitted: tuple[Run, Outcome]):
    outcome = bench_score(fitted[0], "--images", "3")
    assert outcome.code == 2
    assert "--images must be at least 64" in outcome.said
