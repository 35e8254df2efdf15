"""Points that an algorithm reads block by block: from a tensor, an array, or a file larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_BLOCK_ROWS = 2048


class PointSource(Protocol):
    """P points of D coordinates that need not fit into memory."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(P, D)``."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of what :meth:`rows` returns: float32 or float64."""

    @property
    def device(self) -> torch.device:
        """Device of what :meth:`rows` returns, and so the device that computes."""

    def rows(self, positions: Tensor) -> Tensor:
        """``[n, D]`` copies of the points at int64 ``positions``."""


class TensorPoints:
    """Points in a tensor, on its device."""

    def __init__(self, points: Tensor) -> None:
        self._points = points if points.dtype == torch.float64 else points.float()

    @property
    def shape(self) -> tuple[int, int]:
        """``(P, D)``."""
        return self._points.shape[0], self._points.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The tensor's, float32 unless it is float64."""
        return self._points.dtype

    @property
    def device(self) -> torch.device:
        """The tensor's."""
        return self._points.device

    def rows(self, positions: Tensor) -> Tensor:
        """``[n, D]`` copies of the rows."""
        return self._points.index_select(0, positions)


class ArrayPoints:
    """Points in a NumPy array, which may be a memory map, of any float type.

    Args:
        points: ``[P, D]``.
        device: where :meth:`rows` puts them.
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
        """float64 if the array is, else float32."""
        return torch.float64 if self._type is np.float64 else torch.float32

    @property
    def device(self) -> torch.device:
        """As given."""
        return self._device

    def rows(self, positions: Tensor) -> Tensor:
        """``[n, D]`` copies of the rows."""
        # Half-precision files are widened block by block; the copy of the whole file never exists.
        rows = np.asarray(self._points[positions.cpu().numpy()], dtype=self._type)
        return torch.from_numpy(rows).to(self._device)


def as_points(points: Tensor | npt.NDArray[Any] | PointSource) -> PointSource:
    """Wrap a tensor or an array as a :class:`PointSource`."""
    if isinstance(points, Tensor):
        return TensorPoints(points)
    if isinstance(points, np.ndarray):
        return ArrayPoints(points)
    return points


def blocks(source: PointSource, size: int | None = None) -> Iterator[tuple[int, Tensor]]:
    """Yield consecutive blocks as ``(position of the first point, points [n, D])``; the points are copies."""
    size = size or _BLOCK_ROWS
    for start in range(0, source.shape[0], size):
        stop = min(start + size, source.shape[0])
        yield start, source.rows(torch.arange(start, stop, device=source.device))


def sample_mean(source: PointSource) -> Tensor:
    """``[D]`` mean of a few thousand evenly spaced points.

    Subtracting it before matrix products reduces their rounding errors. It need not be the exact mean.
    """
    step = max(1, source.shape[0] // _BLOCK_ROWS)
    return source.rows(torch.arange(0, source.shape[0], step, device=source.device)).mean(dim=0)
