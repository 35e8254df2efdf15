"""Deep SVDD: a network without biases that draws majority images together around a centre.

Source: Ruff et al. 2018, "Deep One-Class Classification" (ICML,
https://proceedings.mlr.press/v80/ruff18a.html), equations 3 (soft boundary) and 4 (one-class). Where we
differ: the network reads the frozen trunk's patch features instead of pixels, so neither autoencoder
pre-training nor many epochs are needed, and one hidden layer is enough: on the ELPV solar cells a second
one, or 3x3 convolutions, ranked worse at two to eight times the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from contracts.errors import DataError, MemberCollapsedError
from contracts.files import Arrays
from contracts.member import FitContext, Member, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows, majority_positions
from features.apply import score_with_module
from features.tensors import TrunkFeatures
from features.training import batches_of, run_training
from oneclass.collapse import require_distinct_scores
from oneclass.settings import DeepSVDDSettings

_LEAST_CENTRE_COORDINATE = 0.1
_LEAST_CENTRE_NORM = 1e-3
_LEAST_SPREAD = 1e-6
_PRELOAD_BYTES = 1 << 30


class DeepSVDD(Member):
    """See the module's docstring. Scores are distances from the centre, 0 or more."""

    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"

    def __init__(self, settings: DeepSVDDSettings) -> None:
        self.settings = settings
        self._module: DeepSVDDModule | None = None

    @property
    def needs(self) -> frozenset[MemberInput]:
        """Patch features only."""
        return frozenset({"patches"})

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Train on the majority rows; a collapsed network is initialised anew, then given up.

        Raises:
            DataError: no majority rows.
            MemberCollapsedError: every attempt collapsed.
        """
        normal_positions = majority_positions(rows)
        if len(normal_positions) == 0:
            raise DataError("deep_svdd: no majority images to learn from. Check the labels.")
        with _one_thread():
            self._fit(rows.subset(normal_positions), context)
        return self

    def _fit(self, normal: ImageRows, context: FitContext) -> None:
        mean, std = _channel_statistics(normal)
        cells = _CellDataset(normal, mean, std)
        for attempt in range(self.settings.attempts):
            with torch.random.fork_rng():
                torch.manual_seed(context.seed + attempt)
                module = DeepSVDDModule(self.settings, mean, std)
            try:
                self._train(module, cells, attempt, context)
            except MemberCollapsedError as collapse:
                if attempt + 1 == self.settings.attempts:
                    raise MemberCollapsedError(
                        f"{collapse} {self.settings.attempts} initialisations were tried."
                    ) from collapse
                context.report(f"{collapse} Initialising anew.")
            else:
                self._module = module
                break

    def _train(self, module: DeepSVDDModule, cells: _CellDataset, attempt: int, context: FitContext) -> None:
        seed = context.seed + attempt
        epochs_before = attempt * self.settings.epochs
        in_order = batches_of(cells, self.settings.batch_size, seed, shuffle=False)
        module.centre.copy_(_initial_centre(module, in_order))
        if float(module.centre.norm()) < _LEAST_CENTRE_NORM:
            raise MemberCollapsedError("deep_svdd: the centre is the origin, which all-zero weights reach.")
        run_training(
            _DeepSVDDTraining(module, self.settings, epochs_before, context.record),
            batches_of(cells, self.settings.batch_size, seed),
            max_epochs=self.settings.epochs,
            device=context.device,
        )
        with torch.inference_mode():
            distances = torch.cat([module.squared_distance(batch) for batch in in_order]).sqrt()
        require_distinct_scores("deep_svdd", distances[:, None].numpy())
        module.radius.copy_(torch.quantile(distances, 1.0 - self.settings.nu))

    def score(self, rows: ImageRows) -> FloatArray:
        """``[N, 1]`` distances."""
        return score_with_module(self.to_module(), rows, self.needs)

    def to_module(self) -> DeepSVDDModule:
        """The fitted module."""
        if self._module is None:
            raise DataError("deep_svdd: not fitted yet.")
        return self._module

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Weights, centre, radius and input statistics."""
        return {name: value.cpu().numpy() for name, value in self.to_module().state_dict().items()}, {}

    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:  # noqa: ARG002
        """Take over a saved state."""
        state = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        module = DeepSVDDModule(self.settings, state["mean"], state["std"])
        module.load_state_dict(state)
        self._module = module
        return self


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run CPU operators on one thread.

    A step takes milliseconds, so threads gain little by sharing it and lose tens of seconds a fit in
    waiting for each other where other work shares the cores. And sums made in one order give the same
    network whatever the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class DeepSVDDModule(nn.Module):
    """The network phi with its centre c. No layer has a bias: a bias could learn the centre by itself.

    Args:
        settings: sizes.
        mean: ``[C]`` of the majority's cells.
        std: ``[C]``.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    radius: Tensor

    def __init__(self, settings: DeepSVDDSettings, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("centre", torch.zeros(settings.embedding_dim))
        self.register_buffer("radius", torch.zeros(()))
        self.of_cell = nn.Sequential(nn.Linear(mean.numel(), settings.hidden, bias=False), nn.LeakyReLU(0.1))
        self.of_image = nn.Linear(settings.hidden, settings.embedding_dim, bias=False)

    def embed(self, cells: Tensor) -> Tensor:
        """``[N, d]`` embeddings phi of ``[N, P, C]`` cells (see :func:`standard_cells`)."""
        # The mean comes before the last layer: both are linear, and this order costs 1/P of the other.
        phi: Tensor = self.of_image(self.of_cell(cells).mean(dim=1))
        return phi

    def squared_distance(self, cells: Tensor) -> Tensor:
        """``[N]`` squared distances of the embeddings from the centre."""
        return (self.embed(cells) - self.centre).square().sum(dim=1)

    def forward(self, features: TrunkFeatures) -> tuple[Tensor, None]:
        """Return ``[N, 1]`` distances from the centre; there is no map."""
        cells = standard_cells(features.patches, self.mean, self.std)
        return self.squared_distance(cells).sqrt()[:, None], None


class _DeepSVDDTraining(LightningModule):
    """The two objectives, for Lightning's loop."""

    def __init__(
        self,
        module: DeepSVDDModule,
        settings: DeepSVDDSettings,
        epochs_before: int,
        record: Callable[[str, float, int], None],
    ) -> None:
        super().__init__()
        self.module = module
        self.settings = settings
        self.epochs_before = epochs_before
        self.record = record
        self._squared_of_epoch: list[Tensor] = []
        self._losses_of_epoch: list[Tensor] = []

    def training_step(self, cells: Tensor, batch_index: int) -> Tensor:  # noqa: ARG002
        squared = self.module.squared_distance(cells)
        self._squared_of_epoch.append(squared.detach())
        if self.settings.objective == "one_class" or self.current_epoch < self.settings.warm_up_epochs:
            loss = squared.mean()
        else:
            r_squared = self.module.radius.square()
            loss = r_squared + (squared - r_squared).clamp_min(0.0).mean() / self.settings.nu
        self._losses_of_epoch.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        # R solves its own minimum: the (1 - nu) quantile of the distances (as the paper sets it).
        distances = torch.cat(self._squared_of_epoch).sqrt()
        self.module.radius.copy_(torch.quantile(distances.float(), 1.0 - self.settings.nu))
        self._squared_of_epoch.clear()
        # A new initialisation goes on counting, so that a collapsed attempt stays in sight.
        step = self.epochs_before + self.current_epoch + 1
        self.record("training_loss", float(torch.stack(self._losses_of_epoch).mean()), step)
        self._losses_of_epoch.clear()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            self.module.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )


class _CellDataset(Dataset[Tensor]):
    """Standardised cells of rows; kept in memory where they fit into 1 GiB, else read batch by batch."""

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
        """``[B, P, C]``; DataLoader asks for whole batches through this."""
        if self._kept is not None:
            return self._kept[positions]
        batch = next(self.rows.subset(np.array(positions)).patches(batch_size=len(positions)))
        return standard_cells(torch.from_numpy(batch), self.mean, self.std)


def _coarse(patches: Tensor) -> Tensor:
    """Halve the grid: ``[N, C, g, g]`` → ``[N, C, h, h]`` with h = ceil(g / 2).

    Patches overlap their neighbours already, so little is lost, and everything after costs a quarter.
    """
    return nn.functional.avg_pool2d(patches, kernel_size=3, stride=2, padding=1, count_include_pad=False)


def standard_cells(patches: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """What the network reads: ``[N, P, C]`` cells of the halved grid, standardised by channel.

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
    std = (total_squared / count - mean.square()).clamp_min(0.0).sqrt()
    # A channel that is silent on the majority may speak on other images; dividing it by next to nothing
    # would let it drown all others.
    std = torch.where(std > _LEAST_SPREAD, std, torch.ones_like(std))
    return mean.float(), std.float()


def _initial_centre(module: DeepSVDDModule, loader: DataLoader[Tensor]) -> Tensor:
    """Mean embedding of a first pass, with small coordinates pushed away from 0, as the paper does."""
    with torch.no_grad():
        embeddings = torch.cat([module.embed(batch) for batch in loader])
    centre = embeddings.mean(dim=0)
    small = centre.abs() < _LEAST_CENTRE_COORDINATE
    return torch.where(small, torch.where(centre < 0, -1.0, 1.0) * _LEAST_CENTRE_COORDINATE, centre)
