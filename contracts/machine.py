"""How many processors this process may really use, and what they are."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CGROUP_2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_CPU_INFO = Path("/proc/cpuinfo")
_CGROUP_1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")

_FLAGS = (
    ("avx2", "AVX2"),
    ("avx512f", "AVX-512"),
    ("avx_vnni", "AVX-VNNI"),
    ("avx512_vnni", "AVX-512 VNNI"),
    ("avx512_bf16", "AVX-512 BF16"),
    ("amx_int8", "AMX int8"),
    ("amx_bf16", "AMX bf16"),
)
"""Flag of the kernel → usual name of the instructions, which decide how fast float32, bf16 and int8 are."""


def usable_cpus() -> int:
    """Count the processors this process may use, at least 1.

    A container sees all of the host's cores; what it may use is in its affinity mask and in the quota
    of its control group, version 2 or 1.
    """
    # macOS and Windows have no affinity mask.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def processor_name() -> str:
    """The maker's name of the processor where the kernel tells it, else its architecture."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor()])[0] or platform.machine()


def processor_flags() -> tuple[str, ...]:
    """Those of :data:`_FLAGS` that the kernel reports; empty where it reports none (macOS, Windows, ARM).

    How fast a precision is, and whether int8 products saturate, depends on them.
    """
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    reported = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return tuple(title for flag, title in _FLAGS if flag in reported)


def processor() -> str:
    """Name and flags of the processor as every figure of speed names it."""
    return f"{processor_name()} ({', '.join(processor_flags()) or platform.machine()})"


def _cgroup_quota() -> float | None:
    """Processors' worth of time that the control group allows, or None where nothing limits it."""
    try:
        if _CGROUP_2.is_file():
            quota, period = _CGROUP_2.read_text(encoding="ascii").split()
            return None if quota == "max" else int(quota) / int(period)
        quota_us = int(_CGROUP_1_QUOTA.read_text(encoding="ascii"))
        period_us = int(_CGROUP_1_PERIOD.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 else None
