"""The device to train on."""

from __future__ import annotations

from contracts.errors import UsageError


def pick_device(wanted: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` is the GPU if torch sees one.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UsageError: cuda was asked for, but torch sees none.
    """
    # Imported here, because commands that only look at the options must start without torch.
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UsageError("--device cuda: torch sees no CUDA GPU here. Use --device auto or cpu.")
    return "cuda" if available and wanted in {"auto", "cuda"} else "cpu"


def limit_threads(threads: int) -> None:
    """Let this process's arithmetic use so many threads from now on."""
    import sklearn.metrics  # noqa: F401  # what it loads of BLAS and OpenMP is to be limited as well
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch.set_num_threads(threads)
    threadpool_limits(threads)
