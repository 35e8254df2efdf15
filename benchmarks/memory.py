"""Memory of a command and all the processes that it starts, looked at while it runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

_SAMPLE_SECONDS = 0.1


def peak_memory_mb(command: Sequence[str]) -> float | None:
    """Run a command to its end and return the most memory that it and its descendants held together.

    Pages that several processes share (libraries, the mapped model file) count once: each process adds its
    proportional set size, where the kernel tells it, else its resident set.

    Args:
        command: program and arguments; what it prints is dropped.

    Returns:
        Megabytes (10^6 bytes), the largest of samples 0.1 s apart; None where there is no ``/proc``.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    if not Path("/proc/self/stat").exists():
        return None
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, sum(_bytes_of(pid) for pid in _family(process.pid)))
            time.sleep(_SAMPLE_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak / 1e6


def family_memory_mb(root: int) -> float:
    """Megabytes (10^6 bytes) that a process and its descendants hold at this moment; 0 without ``/proc``."""
    return sum(_bytes_of(pid) for pid in _family(root)) / 1e6


def _family(root: int) -> set[int]:
    """A process and its descendants."""
    parent_of = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # pid (name, which may hold anything) state parent …
            after_name = status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        except OSError:  # it has just ended
            continue
        parent_of[int(status.parent.name)] = int(after_name.split()[1])
    family = {root}
    while more := {pid for pid, parent in parent_of.items() if parent in family} - family:
        family |= more
    return family


def _bytes_of(pid: int) -> int:
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            text = Path(f"/proc/{pid}/{name}").read_text(encoding="ascii")
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return 0
