"""The small convolutional network of Deep SVDD's paper, and the autoencoder that pre-trains it.

Source: Ruff et al. 2018, section 4.2: LeNet-type networks whose modules are a convolution, batch
normalisation, a leaky ReLU and 2x2 max-pooling, followed by a dense layer. There are no biases, and batch
normalisation has no weights (its shift would be a bias). The decoder mirrors the encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from contracts.errors import MemberCollapsedError
from features.training import run_training

_LEAK = 0.1
_KERNEL = 5
_BN_EPS = 1e-4
_PAPER_FORMS: dict[int, tuple[tuple[int, ...], int]] = {28: ((8, 4), 32), 32: ((32, 64, 128), 128)}
"""Side of the image → filters of the convolutions, and dimensions of the embedding."""


@dataclass(frozen=True)
class LeNetForm:
    """Sizes of a network.

    Attributes:
        image_size: side of the image in pixels.
        channels: 1 or 3.
        filters: of each convolution.
        embedding_dim: of the dense layer.
        bias: whether layers have biases; see :class:`oneclass.deep.settings.SphereSettings`.
    """

    image_size: int
    channels: int
    filters: tuple[int, ...]
    embedding_dim: int
    bias: bool = False

    @classmethod
    def of(
        cls,
        image_size: int,
        channels: int,
        filters: tuple[int, ...] | None,
        embedding_dim: int | None,
        bias: bool,
    ) -> LeNetForm:
        """Build a form; what is None is taken from the paper's network for this image size."""
        paper_filters, paper_dim = _PAPER_FORMS[image_size]
        return cls(image_size, channels, filters or paper_filters, embedding_dim or paper_dim, bias)

    @property
    def side(self) -> int:
        """Side of the last map in cells."""
        return int(self.image_size // 2 ** len(self.filters))


def encoder(form: LeNetForm) -> nn.Sequential:
    """From ``[N, channels, s, s]`` to ``[N, d]``."""
    layers: list[nn.Module] = []
    before = form.channels
    for filters in form.filters:
        # The leaky ReLU is increasing, so it commutes with the maximum: after the pooling it gives the same
        # numbers for a quarter of the work.
        layers += [*_convolution(before, filters, form.bias), nn.MaxPool2d(2), nn.LeakyReLU(_LEAK)]
        before = filters
    last = nn.Linear(before * form.side**2, form.embedding_dim, bias=form.bias)
    return nn.Sequential(*layers, nn.Flatten(), last)


def decoder(form: LeNetForm) -> nn.Sequential:
    """From ``[N, d]`` to ``[N, channels, s, s]`` in 0…1."""
    widths = [form.filters[-1], *reversed(form.filters)]
    layers: list[nn.Module] = [
        nn.Linear(form.embedding_dim, widths[0] * form.side**2, bias=form.bias),
        nn.Unflatten(1, (widths[0], form.side, form.side)),
        nn.LeakyReLU(_LEAK),
    ]
    for before, filters in pairwise(widths):
        layers += [
            *_convolution(before, filters, form.bias),
            nn.LeakyReLU(_LEAK),
            nn.Upsample(scale_factor=2),
        ]
    layers += [
        nn.Conv2d(widths[-1], form.channels, _KERNEL, padding=_KERNEL // 2, bias=form.bias),
        nn.Sigmoid(),
    ]
    return nn.Sequential(*layers)


def _convolution(before: int, filters: int, bias: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(before, filters, _KERNEL, padding=_KERNEL // 2, bias=bias)
    return [convolution, nn.BatchNorm2d(filters, eps=_BN_EPS, affine=bias)]


def pretrain(
    encoding: nn.Sequential,
    form: LeNetForm,
    loader: DataLoader[Any],
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    device: str,
    record: Callable[[str, float, int], None],
) -> None:
    """Train an encoder as half of an autoencoder, in place; torch is seeded by the caller.

    Args:
        encoding: made by :func:`encoder`.
        form: its sizes.
        loader: batches with ``inputs`` ``[B, channels, s, s]`` in 0…1.
        epochs: passes; the last third at a tenth of the learning rate, as in the paper.
        learning_rate: of Adam.
        weight_decay: of both halves.
        device: ``cpu`` or ``cuda``.
        record: receives each epoch's mean squared error as ``reconstruction_loss``.

    Raises:
        MemberCollapsedError: training diverged; weights are not finite.
    """
    training = _Autoencoding(encoding, decoder(form), epochs, learning_rate, weight_decay, record)
    run_training(training, loader, max_epochs=epochs, device=device)
    if not all(bool(torch.isfinite(weight).all()) for weight in encoding.parameters()):
        raise MemberCollapsedError(
            "autoencoder: training diverged. Lower pretrain_learning_rate, or start from random weights with "
            "pretrain_epochs=0."
        )


class _Autoencoding(LightningModule):
    """Mean squared error of reconstruction, for Lightning's loop."""

    def __init__(
        self,
        encoding: nn.Sequential,
        decoding: nn.Sequential,
        epochs: int,
        learning_rate: float,
        weight_decay: float,
        record: Callable[[str, float, int], None],
    ) -> None:
        super().__init__()
        self.encoding, self.decoding = encoding, decoding
        self.epochs, self.learning_rate, self.weight_decay = epochs, learning_rate, weight_decay
        self.record = record
        self._losses: list[Tensor] = []

    def on_train_epoch_start(self) -> None:
        self.train()

    def training_step(self, batch: Any, batch_index: int) -> Tensor:  # noqa: ARG002
        loss = nn.functional.mse_loss(self.decoding(self.encoding(batch.inputs)), batch.inputs)
        self._losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        self.record("reconstruction_loss", float(torch.stack(self._losses).mean()), self.current_epoch + 1)
        self._losses.clear()

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.Adam(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        turn = max(1, round(self.epochs * 2 / 3))
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [turn], gamma=0.1)
        return {"optimizer": optimiser, "lr_scheduler": schedule}
