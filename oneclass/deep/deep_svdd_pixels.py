"""Deep SVDD as published: a small convolutional network from pixels, pre-trained as an autoencoder.

Source: Ruff et al. 2018, "Deep One-Class Classification" (ICML,
https://proceedings.mlr.press/v80/ruff18a.html), section 4.2. We differ as follows: fewer epochs at a larger
learning rate and with smaller batches (150 epochs or more take hours on a CPU); the decoder is a plain mirror
of the encoder; the score is the distance instead of its square, which gives the same order.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from contracts.files import Arrays
from contracts.member import FitContext, MemberInput
from contracts.rows import ImageRows
from features.tensors import BackboneFeatures
from oneclass.deep.lenet import LeNetForm, encoder, pretrain
from oneclass.deep.rows import SphereBatch
from oneclass.deep.settings import DeepSVDDPixelsSettings
from oneclass.deep.sphere import SphereMember, SphereNetwork, SphereTask

# ITU-R BT.601, as in Pillow's conversion to grey.
_LUMA = (0.299, 0.587, 0.114)
# Mean absolute deviation, in grey levels, below which an image counts as having a single colour.
_LEAST_CONTRAST = 1e-3
_LEAST_RANGE = 1e-6
_READ_ROWS = 256
_PRELOAD_BYTES = 1 << 30


class LeNetModule(SphereNetwork):
    """Resize, normalise the contrast, embed.

    Args:
        settings: sizes and normalisation.
        low: ``[]`` smallest pixel value of the majority after contrast normalisation.
        high: ``[]`` largest pixel value.
    """

    low: Tensor
    high: Tensor

    def __init__(self, settings: DeepSVDDPixelsSettings, low: Tensor, high: Tensor) -> None:
        channels = 1 if settings.colours == "gray" else 3
        form = LeNetForm.of(
            settings.image_size, channels, settings.filters, settings.embedding_dim, settings.bias
        )
        super().__init__(form.embedding_dim)
        self.settings = settings
        self.form = form
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.encoder = encoder(form)

    def embed(self, inputs: Tensor) -> Tensor:
        """``[N, d]`` embeddings of ``[N, channels, s, s]`` inputs."""
        phi: Tensor = self.encoder(inputs)
        return phi

    def inputs_of(self, features: BackboneFeatures) -> Tensor:
        """The network's input for ``[N, 3, S, S]`` pixels 0…255."""
        return scaled(contrast_normalised(features.images, self.settings), self.low, self.high)


class DeepSVDDPixels(SphereMember[LeNetModule]):
    """See the module's docstring. Scores are distances from the centre, 0 or more."""

    name = "deep_svdd_pixels"
    needs: ClassVar[frozenset[MemberInput]] = frozenset({"images"})
    settings: DeepSVDDPixelsSettings

    def _task(self, rows: ImageRows, n_majority: int, context: FitContext) -> SphereTask[LeNetModule]:
        s = self.settings
        low, high = _range_of(rows.subset(np.arange(n_majority)), s)

        # The autoencoder learns from the majority alone, also where Deep SAD adds minority rows.
        def start_from_autoencoder(
            network: LeNetModule, majority: DataLoader[SphereBatch | None], seed: int
        ) -> None:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                pretrain(
                    network.encoder,
                    network.form,
                    majority,
                    epochs=s.pretrain_epochs,
                    learning_rate=s.pretrain_learning_rate,
                    weight_decay=s.weight_decay,
                    device=context.device,
                    record=context.record,
                )

        inputs = _PixelInputs(rows, s, low, high)

        def new_network() -> LeNetModule:
            return LeNetModule(s, low, high)

        if s.pretrain_epochs == 0:
            return SphereTask(inputs, new_network)
        return SphereTask(inputs, new_network, start_from_autoencoder)

    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> LeNetModule:  # noqa: ARG002
        low, high = (torch.from_numpy(np.array(arrays[name])) for name in ("low", "high"))
        return LeNetModule(self.settings, low, high)


def contrast_normalised(images: Tensor, settings: DeepSVDDPixelsSettings) -> Tensor:
    """``[N, channels, s, s]`` at the network's size.

    With ``contrast: global`` every image has mean 0 and mean absolute value 1.

    Args:
        images: ``[N, 3, S, S]`` float32, 0…255.
        settings: size, colours, contrast.
    """
    size = settings.image_size
    pixels = torch.nn.functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    if settings.colours == "gray":
        pixels = (pixels * pixels.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    if settings.contrast == "none":
        return pixels
    centred = pixels - pixels.mean(dim=(1, 2, 3), keepdim=True)
    # Mean absolute value, as in the paper's preprocessing, not the standard deviation.
    size_of_image = centred.abs().mean(dim=(1, 2, 3), keepdim=True)
    return centred / size_of_image.clamp_min(_LEAST_CONTRAST)


def scaled(pixels: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Map ``low``…``high`` to 0…1; images unlike the majority may fall outside that range."""
    return (pixels - low) / (high - low).clamp_min(_LEAST_RANGE)


def _read(rows: ImageRows, positions: list[int], settings: DeepSVDDPixelsSettings) -> Tensor:
    images = torch.from_numpy(rows.images(np.array(positions, dtype=np.int64)))
    return contrast_normalised(images.permute(0, 3, 1, 2).float(), settings)


def _range_of(majority: ImageRows, settings: DeepSVDDPixelsSettings) -> tuple[Tensor, Tensor]:
    """Smallest and largest value ``[]`` over all pixels of the majority, in one streamed pass."""
    # Without normalisation the range is known: that of bytes.
    if settings.contrast == "none":
        return torch.tensor(0.0), torch.tensor(255.0)
    low, high = torch.tensor(float("inf")), torch.tensor(float("-inf"))
    for start in range(0, len(majority), _READ_ROWS):
        batch = _read(majority, list(range(start, min(start + _READ_ROWS, len(majority)))), settings)
        low, high = torch.minimum(low, batch.min()), torch.maximum(high, batch.max())
    return low, high


class _PixelInputs(Dataset[Tensor]):
    """Inputs of rows; kept in memory if they fit into 1 GiB, else read batch by batch."""

    def __init__(self, rows: ImageRows, settings: DeepSVDDPixelsSettings, low: Tensor, high: Tensor) -> None:
        self.rows, self.settings, self.low, self.high = rows, settings, low, high
        channels = 1 if settings.colours == "gray" else 3
        self._kept: Tensor | None = None
        if 4 * len(rows) * channels * settings.image_size**2 <= _PRELOAD_BYTES:
            starts = range(0, len(rows), _READ_ROWS)
            parts = [self._read(list(range(s, min(s + _READ_ROWS, len(rows))))) for s in starts]
            self._kept = torch.cat(parts)

    def _read(self, positions: list[int]) -> Tensor:
        return scaled(_read(self.rows, positions, self.settings), self.low, self.high)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: list[int]) -> Tensor:
        """``[B, channels, s, s]``; DataLoader calls this once per batch."""
        return self._read(positions) if self._kept is None else self._kept[positions]
