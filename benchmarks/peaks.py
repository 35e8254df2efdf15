"""What the processor can do at most: matrix products of the best size, in three precisions."""

from __future__ import annotations

import time
from collections.abc import Callable

_SIZES = (256, 768, 1024, 1536, 2048)
_ROUNDS = 3
_AT_LEAST_SECONDS = 0.15
_SLOW_SECONDS = 0.3


def gemm_peaks(threads: int) -> dict[str, float]:
    """Best rate of square matrix products.

    Args:
        threads: torch uses this many during the measurement.

    Returns:
        ``fp32``, ``bf16`` and ``int8``: 10^9 operations per second, a multiplication and an addition counted
        as two; the best of several sizes and rounds, because a peak is what nothing has disturbed.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        generator = torch.Generator().manual_seed(0)
        best: dict[str, float] = {}
        slow: set[str] = set()
        for size in _SIZES:
            one, two = (torch.randn(size, size, generator=generator) for _ in range(2))
            bytes_one, bytes_two = (
                torch.randint(-64, 64, (size, size), dtype=torch.int8, generator=generator) for _ in range(2)
            )
            halves = one.bfloat16(), two.bfloat16()
            products: dict[str, Callable[[], object]] = {
                "fp32": lambda one=one, two=two: torch.mm(one, two),  # type: ignore[misc]
                "bf16": lambda halves=halves: torch.mm(*halves),  # type: ignore[misc]
                "int8": lambda pair=(bytes_one, bytes_two): torch._int_mm(*pair),  # type: ignore[misc]
            }
            for name, product in products.items():
                if name in slow:  # emulated on this processor; larger ones would take minutes
                    continue
                seconds = _seconds(product)
                best[name] = max(best.get(name, 0.0), 2.0 * size**3 / seconds / 1e9)
                if seconds * (_SIZES[-1] / size) ** 3 > 20 * _SLOW_SECONDS:
                    slow.add(name)
        return best
    finally:
        torch.set_num_threads(before)


def _seconds(product: Callable[[], object]) -> float:
    """Shortest time of one call, over rounds of as many calls as take long enough to be timed."""
    started = time.perf_counter()
    product()
    once = time.perf_counter() - started
    calls = max(1, min(50, int(_AT_LEAST_SECONDS / max(once, 1e-6))))
    shortest = once
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for _ in range(calls):
            product()
        shortest = min(shortest, (time.perf_counter() - started) / calls)
    return shortest
