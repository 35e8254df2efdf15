"""How many processors this process may really use, and what they are."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CGROUP_2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_CPU_INFO = Path("/proc/cpuinfo")
_CGROUP_1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


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
