"""How many processors may be used: affinity masks and control group quotas."""

import os
from pathlib import Path

import pytest

from contracts import machine


@pytest.mark.parametrize(
    ("text", "cpus"), [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("nonsense", 8)]
)
def test_processes_keep_to_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cpus: int
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(machine, "_CGROUP_2", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert machine.usable_cpus() == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("300000", 3), ("-1", 8)])
def test_processes_keep_to_a_version_1_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cpus: int
) -> None:
    (tmp_path / "quota").write_text(quota)
    (tmp_path / "period").write_text("100000")
    monkeypatch.setattr(machine, "_CGROUP_2", tmp_path / "none")
    monkeypatch.setattr(machine, "_CGROUP_1_QUOTA", tmp_path / "quota")
    monkeypatch.setattr(machine, "_CGROUP_1_PERIOD", tmp_path / "period")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert machine.usable_cpus() == cpus


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: Some Maker 9000\nmodel name\t: Other\n", "Some Maker 9000"),
        ("processor\t: 0\n", "wise64"),
        (None, "wise64"),
    ],
)
def test_the_processor_has_a_name_whatever_the_kernel_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, name: str
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "wise64")
    assert machine.processor_name() == name


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (
            "flags\t\t: fpu sse avx2 fma avx512f avx512_vnni\nflags\t\t: avx2\n",
            ("AVX2", "AVX-512", "AVX-512 VNNI"),
        ),
        ("Features\t: fp asimd\n", ()),
        (None, ()),
    ],
)
def test_flags_that_decide_speed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, flags: tuple[str, ...]
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.platform, "machine", lambda: "wise64")
    assert machine.processor_flags() == flags
    assert machine.processor().endswith(f"({', '.join(flags) or 'wise64'})")
