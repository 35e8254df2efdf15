"""Convolutional autoencoders and their fit: AE, VAE, WAE-MMD, each with the permutation penalty.

Source: Dablain et al. 2021, DeepSMOTE (https://arxiv.org/abs/2105.02340), whose networks follow DCGAN
(https://arxiv.org/abs/1511.06434): four stride-2 convolutions and a linear layer, then a linear layer and
three transposed convolutions. We differ in implementing the penalty as the paper describes it. The published
code permutes images and codes alike, stops the gradient at the codes and never uses the penalty's weight,
which leaves a second reconstruction loss. Here images of one class are encoded, their codes are permuted, and
the decoded images are compared with the original, unpermuted ones. Besides, the penalty's rows share a batch
with the others, because batch normalisation over a single class would remove what its images have in common.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import Dataset

from contracts.errors import MemberCollapsedError
from contracts.rows import LabelArray
from features.training import batches_of, run_training
from supervised.synthetic.regularisers import kl_to_standard_normal, mmd
from supervised.synthetic.settings import SyntheticSettings

_SLOPE = 0.2
_LOG_VARIANCE_LIMIT = 10.0


class Autoencoder(nn.Module):
    """Encoder and decoder for c channels, s pixels per side and codes of d dimensions.

    Args:
        settings: model, sizes.
    """

    def __init__(self, settings: SyntheticSettings) -> None:
        super().__init__()
        self.settings = settings
        width, channels = settings.width, 1 if settings.gray else 3
        encoder: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(_SLOPE)]
        for step in range(3):
            before, after = width << step, width << (step + 1)
            encoder += [
                nn.Conv2d(before, after, 4, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(_SLOPE),
            ]
        self.encoder = nn.Sequential(*encoder, nn.Flatten())
        deepest = settings.image_size // 16
        encoded = 8 * width * deepest * deepest
        # A VAE's encoder predicts mean and log variance of every coordinate.
        outputs = settings.latent_dim * (2 if settings.model == "vae" else 1)
        self.to_code = nn.Linear(encoded, outputs)
        side = settings.image_size // 8
        self.from_code = nn.Sequential(
            nn.Linear(settings.latent_dim, 8 * width * side * side),
            nn.ReLU(),
            nn.Unflatten(1, (8 * width, side, side)),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(8 * width, 4 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, channels, 4, 2, 1),
            nn.Tanh(),
        )

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """``[N, d]`` codes (a VAE's posterior means) and ``[N, d]`` log variances (no columns unless a VAE).

        Args:
            pixels: ``[N, c, s, s]`` in -1…1.
        """
        outputs = self.to_code(self.encoder(pixels)).float()
        dim = self.settings.latent_dim
        # The clamp keeps exp(log variance) finite.
        return outputs[:, :dim], outputs[:, dim:].clamp(-_LOG_VARIANCE_LIMIT, _LOG_VARIANCE_LIMIT)

    def encode(self, pixels: Tensor) -> Tensor:
        """``[N, d]`` codes of ``[N, c, s, s]`` pixels in -1…1; the means of a VAE's posteriors."""
        return self.posterior(pixels)[0]

    def decode(self, codes: Tensor) -> Tensor:
        """``[N, c, s, s]`` pixels in -1…1 of ``[N, d]`` codes."""
        pixels: Tensor = self.decoder(self.from_code(codes))
        return pixels


def fit_autoencoder(
    pixels: Tensor,
    labels: LabelArray,
    settings: SyntheticSettings,
    seed: int,
    device: str,
    on_epoch: Callable[[int, float], None] = lambda _epoch, _loss: None,
) -> Autoencoder:
    """Fit on exactly these rows.

    Args:
        pixels: ``[n, c, s, s]`` uint8, n at least 3.
        labels: ``[n]`` class index, used only by the penalty.
        settings: which model, with which parameters.
        seed: of weights, batches, noise and permutations. The caller's random state is left unchanged.
        device: ``cpu`` or ``cuda``.
        on_epoch: receives the number of each finished epoch, from 1, and its mean loss.

    Returns:
        The autoencoder on the CPU, in evaluation mode.

    Raises:
        MemberCollapsedError: the loss is not finite.
        KeyboardInterrupt: the user interrupted.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # Convolutions are faster on channels-last tensors, here by a sixth to a third.
        autoencoder: Autoencoder = Autoencoder(settings).to(memory_format=torch.channels_last)
        run_training(
            _Training(autoencoder, on_epoch),
            batches_of(_Rows(pixels, labels, settings, seed), settings.batch_size, seed),
            max_epochs=settings.epochs,
            device=device,
        )
    return autoencoder.eval()


class _Training(LightningModule):
    """The objectives, for Lightning's loop.

    Beta and lambda are relative to the squared error summed over an image. The total is divided by the number
    of pixel values, so that the loss of a plain autoencoder is the mean squared error.

    Args:
        autoencoder: trained in place.
        on_epoch: see :func:`fit_autoencoder`.
    """

    def __init__(self, autoencoder: Autoencoder, on_epoch: Callable[[int, float], None]) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.settings = autoencoder.settings
        self._on_epoch = on_epoch
        self._losses: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor | None:  # noqa: ARG002
        pixels, one_class = batch
        if len(pixels) < 2:
            # A single leftover row has no variance and no MMD. It is another row in the next epoch.
            return None
        loss = self.loss(as_signed(pixels), as_signed(one_class))
        if not math.isfinite(float(loss.detach())):
            raise MemberCollapsedError(
                f"deep_smote with model={self.settings.model}: training of the autoencoder diverged. "
                "Lower synthetic.learning_rate."
            )
        self._losses.append(float(loss.detach()))
        return loss

    def loss(self, pixels: Tensor, one_class: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            pixels: ``[B, c, s, s]`` in -1…1.
            one_class: ``[P, c, s, s]`` rows of one class, in random order; P is 0 without the penalty.
        """
        settings, n = self.settings, len(pixels)
        # One pass for both, so that batch normalisation sees them with the same statistics.
        together = torch.cat([pixels, one_class]).contiguous(memory_format=torch.channels_last)
        codes, log_variance = self.autoencoder.posterior(together)
        means, spread = codes[:n], log_variance[:n]
        drawn = means
        if settings.model == "vae":
            # The reparameterisation trick: gradients reach mean and variance through the sample.
            drawn = means + torch.randn_like(means) * (0.5 * spread).exp()
        moved = self._moved(codes[n:])
        decoded = self.autoencoder.decode(torch.cat([drawn, moved])).float()
        loss = (decoded[:n] - pixels).square().mean()
        values = pixels[0].numel()
        if settings.model == "vae":
            loss = loss + settings.beta / values * kl_to_standard_normal(means, spread)
        elif settings.model == "wae":
            loss = loss + settings.mmd / values * mmd(means, torch.randn_like(means))
        if len(one_class):
            loss = loss + settings.penalty_weight * (decoded[n:] - one_class).square().mean()
        return loss

    def _moved(self, codes: Tensor) -> Tensor:
        """The penalty's codes, each moved to the next row; one cycle, as rows are in random order."""
        if not self.settings.encoder_gradient:
            codes = codes.detach()
        return codes.roll(1, dims=0) if self.settings.permutation else codes

    def on_train_epoch_end(self) -> None:
        self._on_epoch(self.current_epoch + 1, sum(self._losses) / len(self._losses))
        self._losses.clear()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.autoencoder.parameters(), lr=self.settings.learning_rate)


class _Rows(Dataset[tuple[Tensor, Tensor]]):
    """Batches of rows, each with the rows of one class for the penalty."""

    def __init__(self, pixels: Tensor, labels: LabelArray, settings: SyntheticSettings, seed: int) -> None:
        self.pixels, self.settings = pixels, settings
        present, counts = np.unique(labels, return_counts=True)
        self.rows_of_class = [np.flatnonzero(labels == label) for label in present]
        even = np.full(len(present), 1.0 / len(present))
        self.chances = even if settings.class_balanced else counts / counts.sum()
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """``[B, c, s, s]`` and ``[P, c, s, s]`` uint8; DataLoader calls this once per batch."""
        return self.pixels[indices], self.pixels[self._one_class()]

    def _one_class(self) -> list[int]:
        """Positions of at most a batch of rows of a randomly drawn class, in random order."""
        if not self.settings.penalty:
            return []
        rows = self.rows_of_class[self._rng.choice(len(self.chances), p=self.chances)]
        drawn: list[int] = self._rng.permutation(rows)[: self.settings.batch_size].tolist()
        return drawn


def as_signed(pixels: Tensor) -> Tensor:
    """uint8 pixels as float in -1…1."""
    return pixels.float() / 127.5 - 1.0


def as_bytes(signed: Tensor) -> Tensor:
    """Float pixels in -1…1 as uint8."""
    return ((signed + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
