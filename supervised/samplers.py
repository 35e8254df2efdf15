"""Which training rows an epoch draws: quotas per class, and an order that spreads every class evenly.

The draw depends only on seed and epoch. So any process can compute any epoch, and several processes that
train together take every n-th row of the same draw.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from contracts.rows import IndexArray, LabelArray
from supervised.settings import SamplerSettings

CountArray = npt.NDArray[np.int64]


def class_quotas(settings: SamplerSettings, counts: CountArray, epoch: int, epochs: int) -> CountArray:
    """``[K]`` number of rows that an epoch draws from each class.

    Args:
        settings: see :class:`supervised.settings.SamplerSettings`.
        counts: ``[K]`` training rows per class, all at least 1.
        epoch: from 0.
        epochs: their total number; progressive sampling reaches equal shares in the last.

    Returns:
        Quotas. Samplers that only change the class shares draw as many rows as there are, up to rounding.
    """
    kind = settings.kind
    if kind == "none":
        return counts.copy()
    if kind in {"undersample", "undersample_each_epoch"}:
        quotas: CountArray = np.minimum(counts, int(np.ceil(counts.min() / settings.cap)))
        return quotas
    if kind == "oversample":
        grown: CountArray = np.maximum(counts, round(settings.cap * counts.max()))
        return grown
    natural = counts / counts.sum()
    equal = np.full(len(counts), 1.0 / len(counts))
    if kind == "square_root":
        shares = np.sqrt(natural) / np.sqrt(natural).sum()
    elif kind == "class_balanced":
        shares = equal
    else:
        # Kang et al. 2020 (https://arxiv.org/abs/1910.09217), progressively-balanced sampling:
        # (1 - t/T) instance shares + t/T class shares.
        t = epoch / max(1, epochs - 1)
        shares = (1.0 - t) * natural + t * equal
    remixed: CountArray = np.maximum(1, np.rint(shares * counts.sum()).astype(np.int64))
    return remixed


def draw_rows(
    settings: SamplerSettings, labels: LabelArray, n_classes: int, seed: int, epoch: int, epochs: int
) -> IndexArray:
    """Positions that an epoch draws, in the order they are shown.

    If a class's quota exceeds its rows, they are drawn in shuffled rounds, so no row is repeated before all
    others were drawn. In the order, row i of a class with quota q lies near i / q of the epoch, so that every
    batch holds the classes in about the ratio of the quotas.

    Args:
        settings: of the sampler.
        labels: ``[N]`` class index.
        n_classes: K; every class has rows.
        seed: of the fit.
        epoch: from 0.
        epochs: their total number.

    Returns:
        ``[sum of quotas]`` positions into ``labels``.
    """
    counts = np.bincount(labels, minlength=n_classes).astype(np.int64)
    quotas = class_quotas(settings, counts, epoch, epochs)
    # ``undersample`` makes the same choice in every epoch, but shows it in a new order. Two generators, so
    # that the order does not change the choice.
    choice = np.random.default_rng([seed, 1 if settings.kind == "undersample" else 2 + epoch])
    order = np.random.default_rng([seed, 0, epoch])
    drawn, places = [], []
    for k in range(n_classes):
        rows = np.flatnonzero(labels == k)
        rounds = [choice.permutation(rows) for _ in range(-(-int(quotas[k]) // len(rows)))]
        mine = np.concatenate(rounds)[: quotas[k]]
        if settings.kind == "undersample":
            mine = order.permutation(mine)
        drawn.append(mine)
        # Jittered places in 0…1, evenly spread per class: sorting all of them interleaves the classes.
        places.append((np.arange(len(mine)) + order.random(len(mine))) / len(mine))
    return np.concatenate(drawn)[np.argsort(np.concatenate(places), kind="stable")].astype(np.int64)


class EpochSampler(Sampler[int]):
    """The draw of each epoch as a torch sampler; the trainer sets the epoch.

    Args:
        settings: of the sampler.
        labels: ``[N]`` class index.
        n_classes: K.
        seed: of the fit.
        epochs: their total number.
        rank: of this process among those that train together.
        world_size: number of these processes; each takes every ``world_size``-th row of the same draw.
    """

    def __init__(
        self,
        settings: SamplerSettings,
        labels: LabelArray,
        n_classes: int,
        seed: int,
        epochs: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.settings, self.labels, self.n_classes = settings, labels, n_classes
        self.seed, self.epochs, self.epoch = seed, epochs, 0
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def _draw(self) -> IndexArray:
        drawn = draw_rows(self.settings, self.labels, self.n_classes, self.seed, self.epoch, self.epochs)
        # All processes need the same number of rows, or the last step would wait forever.
        even = len(drawn) - len(drawn) % self.world_size
        return drawn[self.rank : even : self.world_size]

    def __iter__(self) -> Iterator[int]:
        return iter(self._draw().tolist())

    def __len__(self) -> int:
        return len(self._draw())
