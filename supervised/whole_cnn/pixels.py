"""Pixels of training rows at the CNN's own size, augmented and mixed when they are drawn."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from contracts.rows import FloatArray, ImageRows, IndexArray
from supervised.settings import AugmentSettings
from supervised.whole_cnn.augmentation import image_transform, mix_rows

_PRELOAD_BYTES = 1 << 30


class Batch(NamedTuple):
    """B rows of a training step.

    Attributes:
        pixels: ``[B, 3, s, s]`` 0…255, uint8, or float32 if rows are mixed.
        labels: ``[B]`` int64.
        share: ``[B]`` share of the row's own label in its pixels; 1 if nothing is mixed.
        partner_labels: ``[B]`` labels that the rest belongs to.
        targets: ``[B, K]`` class probabilities to learn instead of the labels, mixed like the pixels; None if
            the labels are learnt.
    """

    pixels: Tensor
    labels: Tensor
    share: Tensor
    partner_labels: Tensor
    targets: Tensor | None = None


def resized(images: Tensor, size: int) -> Tensor:
    """``[N, 3, size, size]`` from ``[N, 3, S, S]`` float32, antialiased."""
    return nn.functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


class PixelDataset(Dataset[Batch]):
    """Rows as batches of pixels; pixels of files are kept in memory if they fit into 1 GiB.

    Args:
        rows: all rows.
        positions: of the rows to draw from.
        size: s, the CNN's own size in pixels.
        augment: random changes; None leaves images unchanged.
        generated: ``[M, 3, z, z]`` uint8 pixels and ``[M]`` labels of synthetic images. They follow the rows,
            from position ``len(positions)`` on, and are resized when they are drawn.
        targets: ``[len(positions), K]`` class probabilities to learn instead of the labels; synthetic images
            keep their labels.
    """

    def __init__(
        self,
        rows: ImageRows,
        positions: IndexArray,
        size: int,
        augment: AugmentSettings | None = None,
        generated: tuple[Tensor, Tensor] | None = None,
        targets: FloatArray | None = None,
    ) -> None:
        self.rows, self.positions, self.size = rows, positions, size
        self.augment = augment
        self.transform: Any = None if augment is None else image_transform(augment, size)
        self.labels = torch.from_numpy(rows.labels[positions])
        self.targets = None if targets is None else torch.from_numpy(targets)
        self._generated = torch.empty(0)
        if generated is not None:
            self._generated = generated[0]
            self.labels = torch.cat([self.labels, generated[1]])
            if self.targets is not None:
                of_generated = nn.functional.one_hot(generated[1], self.targets.shape[1])
                self.targets = torch.cat([self.targets, of_generated.to(self.targets.dtype)])
        self._kept: list[Tensor | None] = [None] * len(positions)
        self._keeps = len(positions) * 3 * size * size <= _PRELOAD_BYTES

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> Batch:
        """The batch at the given positions in this data set; DataLoader calls this once per batch."""
        pixels = torch.stack([self._changed(self._one(index)) for index in indices])
        labels = self.labels[indices]
        targets = None if self.targets is None else self.targets[indices]
        if self.augment is None or self.augment.mix == "none":
            return Batch(pixels, labels, torch.ones(len(labels)), labels, targets)
        mixed, shares = mix_rows(self.augment, pixels.float())
        # Each row is mixed with one partner: the diagonal is its own share, the other nonzero entry is the
        # rest.
        own = shares.diagonal().clone()
        partner = (shares - torch.diag(own)).argmax(dim=1)
        if targets is not None:
            targets = own[:, None] * targets + (1.0 - own)[:, None] * targets[partner]
        return Batch(mixed, labels, own, labels[partner], targets)

    def _changed(self, pixels: Tensor) -> Tensor:
        if self.transform is None:
            return pixels
        changed: Tensor = self.transform(pixels)
        return changed

    def _one(self, index: int) -> Tensor:
        if index >= len(self.positions):
            return self._sized(self._generated[index - len(self.positions)][None])
        kept = self._kept[index]
        if kept is None:
            image = torch.from_numpy(self.rows.images(self.positions[index : index + 1]))
            kept = self._sized(image.permute(0, 3, 1, 2))
            if self._keeps:
                self._kept[index] = kept
        return kept

    def _sized(self, image: Tensor) -> Tensor:
        """``[3, s, s]`` uint8 of a ``[1, 3, S, S]`` uint8 image."""
        # Rounded back to bytes: a quarter of the memory, and what the exported graph's resize sees differs by
        # less than one grey level.
        return resized(image.float(), self.size)[0].round().clamp(0, 255).to(torch.uint8)
