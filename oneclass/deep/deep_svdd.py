"""Deep SVDD on the backbone's features: a network without biases that pulls majority images to a centre.

Source: Ruff et al. 2018, "Deep One-Class Classification" (ICML,
https://proceedings.mlr.press/v80/ruff18a.html), equations 3 (soft boundary) and 4 (one-class). We differ in
reading the frozen backbone's patch features instead of pixels. That needs neither autoencoder pre-training
nor many epochs, and one hidden layer is enough: on the ELPV solar cells, a second layer, or 3x3 convolutions,
ranked worse at two to eight times the cost. The paper's own form, from pixels, is in
:mod:`oneclass.deep.deep_svdd_pixels`; what both share is in :mod:`oneclass.deep.sphere`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from contracts.files import Arrays
from contracts.member import FitContext, MemberInput
from contracts.rows import ImageRows
from features.tensors import BackboneFeatures
from oneclass.deep.settings import DeepSVDDSettings
from oneclass.deep.sphere import SphereMember, SphereNetwork, SphereTask

_LEAST_SPREAD = 1e-6
_PRELOAD_BYTES = 1 << 30


class DeepSVDDModule(SphereNetwork):
    """The network phi with its centre c. No layer has a bias, because biases alone could learn the centre.

    Args:
        settings: sizes.
        mean: ``[C]`` of the majority's cells.
        std: ``[C]``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: DeepSVDDSettings, mean: Tensor, std: Tensor) -> None:
        super().__init__(settings.embedding_dim)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.of_cell = nn.Sequential(
            nn.Linear(mean.numel(), settings.hidden, bias=settings.bias), nn.LeakyReLU(0.1)
        )
        self.of_image = nn.Linear(settings.hidden, settings.embedding_dim, bias=settings.bias)

    def embed(self, inputs: Tensor) -> Tensor:
        """``[N, d]`` embeddings phi of ``[N, P, C]`` cells (see :func:`standard_cells`)."""
        # Mean first, last layer second: both are linear, so the result is the same at 1/P of the cost.
        phi: Tensor = self.of_image(self.of_cell(inputs).mean(dim=1))
        return phi

    def inputs_of(self, features: BackboneFeatures) -> Tensor:
        """``[N, P, C]`` standardised cells."""
        return standard_cells(features.patches, self.mean, self.std)


class DeepSVDD(SphereMember[DeepSVDDModule]):
    """See the module's docstring. Scores are distances from the centre, 0 or more."""

    name = "deep_svdd"
    needs: ClassVar[frozenset[MemberInput]] = frozenset({"patches"})
    settings: DeepSVDDSettings

    def _task(
        self,
        rows: ImageRows,
        n_majority: int,
        context: FitContext,  # noqa: ARG002
    ) -> SphereTask[DeepSVDDModule]:
        mean, std = _channel_statistics(rows.subset(np.arange(n_majority)))
        return SphereTask(_CellDataset(rows, mean, std), lambda: DeepSVDDModule(self.settings, mean, std))

    def _threads(self) -> AbstractContextManager[None]:
        return _one_thread()

    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> DeepSVDDModule:  # noqa: ARG002
        mean, std = (torch.from_numpy(np.array(arrays[name])) for name in ("mean", "std"))
        return DeepSVDDModule(self.settings, mean, std)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run CPU operators on one thread.

    A step takes milliseconds, so threads gain little by sharing it. On a busy machine they lose tens of
    seconds per fit waiting for each other. Besides, with one order of summation the network is the same on
    any number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _CellDataset(Dataset[Tensor]):
    """Standardised cells of rows; kept in memory if they fit into 1 GiB, else read batch by batch."""

    def __init__(self, rows: ImageRows, mean: Tensor, std: Tensor) -> None:
        self.rows, self.mean, self.std = rows, mean, std
        side = (rows.shapes.patch_grid + 1) // 2
        fits = 4 * len(rows) * rows.shapes.patch_channels * side * side <= _PRELOAD_BYTES
        self._kept = (
            torch.cat([standard_cells(torch.from_numpy(batch), mean, std) for batch in rows.patches()])
            if fits
            else None
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: list[int]) -> Tensor:
        """``[B, P, C]``; DataLoader calls this once per batch."""
        if self._kept is not None:
            return self._kept[positions]
        # One batch as large as the request, so the iterator yields exactly one.
        batch = next(self.rows.subset(np.array(positions)).patches(batch_size=len(positions)))
        return standard_cells(torch.from_numpy(batch), self.mean, self.std)


def _coarse(patches: Tensor) -> Tensor:
    """Halve the grid: ``[N, C, g, g]`` → ``[N, C, h, h]`` with h = ceil(g / 2).

    Neighbouring patches overlap anyway, so little is lost, and all further work costs a quarter.
    """
    return nn.functional.avg_pool2d(patches, kernel_size=3, stride=2, padding=1, count_include_pad=False)


def standard_cells(patches: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The network's input: ``[N, P, C]`` cells of the halved grid, standardised per channel.

    Args:
        patches: ``[N, C, g, g]``.
        mean: ``[C]``.
        std: ``[C]``.
    """
    return (_coarse(patches).flatten(start_dim=2).transpose(1, 2) - mean) / std


def _channel_statistics(normal: ImageRows) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``[C]`` over all cells of the majority, in one streamed pass."""
    n_channels = normal.shapes.patch_channels
    count = 0
    total = torch.zeros(n_channels, dtype=torch.float64)
    total_squared = torch.zeros(n_channels, dtype=torch.float64)
    for batch in normal.patches():
        cells = _coarse(torch.from_numpy(batch)).double()
        count += cells.shape[0] * cells.shape[2] * cells.shape[3]
        total += cells.sum(dim=(0, 2, 3))
        total_squared += cells.square().sum(dim=(0, 2, 3))
    mean = total / count
    # E[x^2] - E[x]^2 in float64 is exact enough here, but rounding may take it below 0.
    std = (total_squared / count - mean.square()).clamp_min(0.0).sqrt()
    # A channel that is constant on the majority may vary on other images; divided by next to nothing it
    # would outweigh all others there.
    std = torch.where(std > _LEAST_SPREAD, std, torch.ones_like(std))
    return mean.float(), std.float()
