"""Which processor trains."""

from __future__ import annotations

from contracts.errors import UsageError


def pick_device(wanted: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` takes the GPU where torch sees one.

    Raises:
        UsageError: cuda was asked for and is not there.
    """
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UsageError("--device cuda: torch sees no CUDA GPU here. Use --device auto or cpu.")
    return "cuda" if available and wanted in {"auto", "cuda"} else "cpu"
