"""``python -m benchmarks coreset``: what is timed and measured, and what is said about it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks import coreset as bench
from benchmarks.coreset import CoresetCase, CoresetRun, extra_memory
from oneclass.patchcore.coreset import cover_radius, k_center_greedy
from tests.conftest import run_benchmark

CASE = CoresetCase(points=700, dim=24, centers=220, seed=3, threads=1)


def test_extra_memory_is_what_the_call_held_at_most():
    def call():
        held = torch.ones(20, 2**20)
        del held
        return 7

    result, mib = extra_memory(call)
    assert result == 7
    assert 75 < mib < 130
    _, little = extra_memory(lambda: torch.ones(2**18))
    assert little < 20


def test_our_run_is_the_selection_of_the_points():
    points = bench.points_of(CASE)
    assert points.shape == (700, 24)
    run = bench._ours(points, CASE)
    assert run.selected == k_center_greedy(points, 220, seed=3).tolist()
    assert run.iterations is None
    assert run.measured_dim == 24


def test_anomalibs_run_in_full_and_extrapolated(monkeypatch):
    points = bench.points_of(CASE)
    full = bench._anomalib(points, CASE, None)
    assert len(set(full.selected)) == 220
    assert full.iterations is None
    assert full.measured_dim == 161  # Johnson-Lindenstrauss: 4 ln(700) / (0.9^2 / 2 - 0.9^3 / 3)
    clock = iter([0.0, 1.5, 10.0, 15.5])  # two centres take 1.5 s, 202 centres 5.5 s: 0.02 s an iteration
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    part = bench._anomalib(points, dataclasses.replace(CASE, centers=402), 200)
    assert len(part.selected) == 202
    assert part.iterations == 200
    assert part.seconds == pytest.approx(1.5 + 400 * 0.02)


@pytest.fixture
def runs(monkeypatch):
    """Made-up seconds and memory, real selections; which runs were asked for, in order."""
    asked = []

    def made_up(which, case, iterations):
        asked.append((which, iterations))
        points = bench.points_of(case)
        if which == "ours":
            selected = k_center_greedy(points, case.centers, case.seed).tolist()
            return CoresetRun(float(len(asked)), 10.0, selected, case.dim)
        n = iterations + 2 if iterations else case.centers
        return CoresetRun(100.0, 40.0, list(range(n)), 11, iterations)

    monkeypatch.setattr(bench, "_in_own_process", made_up)
    return asked


def test_document_and_table(runs):
    outcome = run_benchmark("coreset", "--points", 700, "--dim", 24, "--centers", 50, "--json")
    assert outcome.code == 0
    assert runs == [("ours", None), ("anomalib", None), ("ours", None)]
    ours, theirs = (outcome.json["selections"][name] for name in ("ours", "anomalib"))
    points = bench.points_of(CoresetCase(700, 24, 50, 0, 1))
    assert ours["seconds_of_runs"] == [1.0, 3.0]
    assert ours["seconds"] == 2.0
    assert outcome.json["times_as_fast"] == 50.0
    assert outcome.json["memory_share"] == 0.25
    assert theirs["cover_radius"] == pytest.approx(cover_radius(points, points[:50]))
    assert ours["cover_radius"] < theirs["cover_radius"]
    assert "1/50 of the time and 0.25 of the memory" in outcome.said
    assert "random projection to 11 dimensions" in outcome.said
    assert "extrapolated" not in outcome.said


def test_an_extrapolated_time_is_called_so(runs, monkeypatch):
    monkeypatch.setattr(bench, "_MOST_PAIRS_IN_FULL", 1000)
    monkeypatch.setattr(bench, "_TIMED_ITERATIONS", 18)
    outcome = run_benchmark("coreset", "--points", 700, "--dim", 24, "--centers", 50, "--json")
    assert runs[1] == ("anomalib", 18)
    wished = run_benchmark("coreset", "--points", 700, "--dim", 24, "--centers", 50, "--iterations", 30)
    assert runs[4] == ("anomalib", 30)
    assert "extrapolated from 30 iterations" in wished.said
    assert "100.00*" in outcome.said
    assert (
        "* extrapolated from 18 iterations and one projection. Cover radii are of the first 20"
        in outcome.said
    )
    ours = outcome.json["selections"]["ours"]
    assert outcome.json["selections"]["anomalib"]["extrapolated_from_iterations"] == 18
    assert ours["centers_compared"] == 20
    assert ours["cover_radius_of_all"] < ours["cover_radius"]


def test_points_of_a_file(runs, tmp_path):
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(90, 5)).astype(np.float16))
    outcome = run_benchmark("coreset", "--file", tmp_path / "points.npy", "--centers", 9, "--json")
    assert (outcome.json["points"], outcome.json["dim"]) == (90, 5)


def test_what_cannot_be(tmp_path):
    few = run_benchmark("coreset", "--points", 50, "--centers", 50)
    assert few.code == 2
    assert "50 centres of 50 points leave nothing to choose" in few.said
    np.save(tmp_path / "labels.npy", np.arange(5))
    for name, said in (
        ("labels.npy", "holds int64 of shape (5,)"),
        ("none.npy", "cannot be read as a .npy file"),
    ):
        wrong = run_benchmark("coreset", "--file", tmp_path / name, "--centers", 3)
        assert wrong.code == 3
        assert said in wrong.said
