"""Generated images: fit an autoencoder, sample between codes of a class, decode.

Leak-safe by what it is given: everything is fitted on exactly the rows handed over, which are one fold's
training rows. Memory: n rows at s pixels per side are held as uint8, 3 n s² bytes (100,000 at 32 px: 0.3 GB),
their codes as 4 n d, and the m generated rows as 3 m s²; the autoencoder adds activations of one batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from contracts.errors import UsageError
from contracts.member import FitContext
from contracts.rows import FloatArray, ImageArray, ImageRows, IndexArray, LabelArray
from supervised.synthetic.autoencoders import Autoencoder, as_bytes, as_signed, fit_autoencoder
from supervised.synthetic.contact_sheet import ClassPictures, contact_sheet
from supervised.synthetic.latent import Sampled, sample_between
from supervised.synthetic.settings import SyntheticSettings

_BATCH = 64
_SHOWN = 12
# ITU-R BT.601, as Pillow turns colour into grey.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class SyntheticImages:
    """Generated rows and what to know of them.

    Attributes:
        images: ``[m, s, s, 3]`` uint8 RGB, class by class.
        labels: ``[m]`` class index.
        sheet_png: contact sheet of real, reconstructed and generated images.
        facts: JSON facts: rows and generated rows per class, k used, losses, reconstruction errors.
    """

    images: ImageArray
    labels: LabelArray
    sheet_png: bytes
    facts: dict[str, Any]


def shrunken_images(rows: ImageRows, positions: IndexArray, side: int) -> ImageArray:
    """``[n, side, side, 3]`` uint8 pixels of rows, read and resized 64 at a time.

    Args:
        rows: to read from.
        positions: ``[n]`` within ``rows``.
        side: pixels.
    """
    batches = (positions[start : start + _BATCH] for start in range(0, len(positions), _BATCH))
    return np.concatenate([_resized(rows.images(batch), side) for batch in batches])


def _resized(images: ImageArray, side: int) -> ImageArray:
    """``[B, side, side, 3]`` uint8, antialiased; images that already have that side stay as they are."""
    if images.shape[1:3] == (side, side):
        return images
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    resized = nn.functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def synthesise(
    images: ImageArray,
    labels: LabelArray,
    n_classes: int,
    settings: SyntheticSettings,
    seed: int,
    device: str = "cpu",
    report: Callable[[str], None] = lambda _: None,
    on_epoch: Callable[[int, float], None] = lambda _epoch, _loss: None,
) -> SyntheticImages:
    """Make synthetic images of the classes that have fewer rows than ``settings.cap`` asks for.

    Args:
        images: ``[n, S, S, 3]`` uint8 RGB of the training rows and no others; best read by
            :func:`shrunken_images`, so that S is already small.
        labels: ``[n]`` class index, 0…K-1.
        n_classes: K.
        settings: with ``space: images``.
        seed: of the autoencoder and of the sampler.
        device: ``cpu`` or ``cuda``.
        report: receives a sentence about the fit, and when a rule for small classes applies.
        on_epoch: receives the number of each finished epoch, from 1, and its mean loss.

    Raises:
        UsageError: ``settings.space`` is ``features``.
        DataError: a class that needs new rows has fewer than 2 rows.
        MemberCollapsedError: the autoencoder diverged.
        KeyboardInterrupt: the user interrupted.
    """
    if settings.space != "images":
        raise UsageError("synthetic: got space=features, which makes no images. Set synthetic.space=images.")
    losses: list[float] = []

    def after_epoch(epoch: int, loss: float) -> None:
        losses.append(loss)
        on_epoch(epoch, loss)

    pixels = _pixels(images, settings)
    autoencoder = fit_autoencoder(pixels, labels, settings, seed, device, after_epoch).to(device)
    codes, errors = _codes_and_errors(autoencoder, pixels, device)
    sampled = sample_between(
        codes,
        labels,
        n_classes,
        sampler=settings.sampler,
        neighbours=settings.neighbours,
        cap=settings.cap,
        seed=seed,
        report=report,
    )
    generated = _decoded(autoencoder, sampled.points, device)
    facts = _facts(labels, n_classes, sampled, errors, losses)
    report(
        f"{len(generated)} images made by {settings.model} and {settings.sampler}; reconstruction error "
        f"{facts['reconstruction_mse']:.4f} (pixels 0 to 1) after {len(losses)} epochs"
    )
    sheet = _sheet(autoencoder, pixels, labels, n_classes, sampled, generated, device)
    return SyntheticImages(generated, sampled.labels, sheet, facts)


def generated_rows(
    rows: ImageRows, positions: IndexArray, settings: SyntheticSettings, context: FitContext
) -> tuple[Tensor, Tensor]:
    """Make synthetic images for a fit; a contact sheet and a JSON summary are kept beside its result.

    Args:
        rows: of the fit.
        positions: of the rows to learn from; the rows set aside for early stopping are not used.
        settings: with ``space: images``.
        context: seed, device, and receivers of sentences and files.

    Returns:
        ``[m, 3, s, s]`` uint8 pixels and their ``[m]`` labels.
    """
    made = synthesise(
        shrunken_images(rows, positions, settings.image_size),
        rows.labels[positions],
        rows.n_classes,
        settings,
        context.seed,
        context.device,
        context.report,
        on_epoch=lambda epoch, loss: context.record("autoencoder_loss", loss, epoch),
    )
    context.keep("generated.png", made.sheet_png)
    facts = json.dumps(made.facts, indent=2, sort_keys=True) + "\n"
    context.keep("generated.json", facts.encode("utf-8"))
    return torch.from_numpy(made.images).permute(0, 3, 1, 2), torch.from_numpy(made.labels)


def _pixels(images: ImageArray, settings: SyntheticSettings) -> Tensor:
    """``[n, c, s, s]`` uint8 inputs of the autoencoder."""
    side = settings.image_size
    batches = [_resized(images[start : start + _BATCH], side) for start in range(0, len(images), _BATCH)]
    pixels = torch.from_numpy(np.concatenate(batches)).permute(0, 3, 1, 2).contiguous()
    if not settings.gray:
        return pixels
    luma = torch.tensor(_LUMA)[:, None, None]
    gray = torch.empty((len(pixels), 1, side, side), dtype=torch.uint8)
    for start in range(0, len(pixels), _BATCH):
        part = pixels[start : start + _BATCH].float() * luma
        gray[start : start + _BATCH] = part.sum(dim=1, keepdim=True).round()
    return gray


@torch.inference_mode()
def _codes_and_errors(autoencoder: Autoencoder, pixels: Tensor, device: str) -> tuple[FloatArray, FloatArray]:
    """``[n, d]`` codes, and ``[n]`` mean squared reconstruction errors for pixels from 0 to 1."""
    codes, errors = [], []
    for start in range(0, len(pixels), _BATCH):
        signed = as_signed(pixels[start : start + _BATCH].to(device))
        code = autoencoder.encode(signed)
        codes.append(code.cpu())
        # Divided by 4, because -1…1 is twice as wide as 0…1.
        squared = (autoencoder.decode(code) - signed).square() / 4.0
        errors.append(squared.flatten(1).mean(dim=1).cpu())
    return torch.cat(codes).numpy(), torch.cat(errors).numpy()


@torch.inference_mode()
def _decoded(autoencoder: Autoencoder, codes: FloatArray, device: str) -> ImageArray:
    """``[m, s, s, 3]`` uint8 images of ``[m, d]`` codes."""
    side = autoencoder.settings.image_size
    images = np.empty((len(codes), side, side, 3), dtype=np.uint8)
    for start in range(0, len(codes), _BATCH):
        part = torch.from_numpy(codes[start : start + _BATCH]).to(device)
        # A single channel is broadcast to all three.
        images[start : start + _BATCH] = as_bytes(autoencoder.decode(part)).permute(0, 2, 3, 1).cpu().numpy()
    return images


def _facts(
    labels: LabelArray, n_classes: int, sampled: Sampled, errors: FloatArray, losses: list[float]
) -> dict[str, Any]:
    return {
        "rows": np.bincount(labels, minlength=n_classes).tolist(),
        "generated": np.bincount(sampled.labels, minlength=n_classes).tolist(),
        "neighbours": {str(label): k for label, k in sampled.neighbours.items()},
        "reconstruction_mse": float(errors.mean()),
        "reconstruction_mse_per_class": [
            float(errors[labels == label].mean()) if (labels == label).any() else None
            for label in range(n_classes)
        ],
        "loss_per_epoch": losses,
    }


def _sheet(
    autoencoder: Autoencoder,
    pixels: Tensor,
    labels: LabelArray,
    n_classes: int,
    sampled: Sampled,
    generated: ImageArray,
    device: str,
) -> bytes:
    """The contact sheet of the classes with synthetic rows."""
    classes = []
    for label in sampled.neighbours:
        mine = np.flatnonzero(labels == label)
        made = generated[sampled.labels == label]
        shown = pixels[mine[:_SHOWN]]
        with torch.inference_mode():
            codes = autoencoder.encode(as_signed(shown.to(device))).cpu().numpy()
        real = shown.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()
        title = f"class {label}, the minority" if label == n_classes - 1 else f"class {label}"
        # ADASYN returns the new rows of one source together, so even steps show more sources.
        steps = np.linspace(0, len(made) - 1, min(_SHOWN, len(made))).astype(np.int64)
        reconstructed = _decoded(autoencoder, codes, device)
        classes.append(ClassPictures(title, len(mine), len(made), real, reconstructed, made[steps]))
    settings = autoencoder.settings
    penalty = " with the permutation penalty" if settings.penalty else ""
    return contact_sheet(f"{settings.model} and {settings.sampler}{penalty}", classes)
