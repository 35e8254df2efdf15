"""Points that an algorithm reads a few at a time: a tensor, an array, or a file as large as the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_BLOCK_ROWS = 2048


class PointSource(Protocol):
    """P points of D coordinates that need not lie in memory."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(P, D)``."""

    @property
    def dtype(self) -> torch.dtype:
        """Of what :meth:`rows` returns: float32 or float64."""

    @property
    def device(self) -> torch.device:
        """Where :meth:`rows` puts them, and so where the work is done."""

    def rows(self, positions: Tensor) -> Tensor:
        """``[n, D]`` the points at int64 ``positions``, a copy."""


class TensorPoints:
    """Points of a tensor, on its device."""

    def __init__(self, points: Tensor) -> None:
        self._points = points if points.dtype == torch.float64 else points.float()

    @property
    def shape(self) -> tuple[int, int]:
        """``(P, D)``."""
        return self._points.shape[0], self._points.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensor."""
        return self._points.dtype

    @property
    def device(self) -> torch.device:
        """Of the tensor."""
        return self._points.device

    def rows(self, positions: Tensor) -> Tensor:
        """``[n, D]`` copies of the rows."""
        return self._points.index_select(0, positions)


class ArrayPoints:
    """Points of a numpy array, which may be a memory map of any float type.

    Args:
        points: ``[P, D]``.
        device: where the work is done.
    """

    def __init__(self, points: npt.NDArray[Any], device: str = "cpu") -> None:
        self._points = points
        self._device = torch.device(device)
        self._type = np.float64 if points.dtype == np.float64 else np.float32

    @property
    def shape(self) -> tuple[int, int]:
        """``(P, D)``."""
        return self._points.shape[0], self._points.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """float64 where the array is, else float32."""
        return torch.float64 if self._type is np.float64 else torch.float32

    @property
    def device(self) -> torch.device:
        """As given."""
        return self._device

    def rows(self, positions: Tensor) -> Tensor:
        """``[n, D]`` copies of the rows."""
        rows = np.asarray(self._points[positions.cpu().numpy()], dtype=self._type)
        return torch.from_numpy(rows).to(self._device)


def as_points(points: Tensor | npt.NDArray[Any] | PointSource) -> PointSource:
    """Whatever holds points, as a source of them."""
    if isinstance(points, Tensor):
        return TensorPoints(points)
    if isinstance(points, np.ndarray):
        return ArrayPoints(points)
    return points


def blocks(source: PointSource, size: int | None = None) -> Iterator[tuple[int, Tensor]]:
    """Yield ``(position of the first, points [n, D])`` of consecutive points; the points are copies."""
    size = size or _BLOCK_ROWS
    for start in range(0, source.shape[0], size):
        stop = min(start + size, source.shape[0])
        yield start, source.rows(torch.arange(start, stop, device=source.device))


def sample_mean(source: PointSource) -> Tensor:
    """``[D]`` mean of a few thousand points, evenly spaced.

    To subtract something near the mean makes products of matrices round less; it need not be the mean.
    """
    step = max(1, source.shape[0] // _BLOCK_ROWS)
    return source.rows(torch.arange(0, source.shape[0], step, device=source.device)).mean(dim=0)
