"""SimCLR: a network learns from unlabelled images that two views of the same image belong together.

Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations"
(https://arxiv.org/abs/2002.05709): section 2.1 (views, projection, NT-Xent) and appendix A (views). We differ
as follows: training sets are small, so Adam replaces LARS and there is no warm-up; training starts from the
weights that the network has, usually ImageNet's. Labels are never used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset
from torchvision.transforms import v2

from contracts.errors import DataError, MemberCollapsedError
from features.training import batches_of, run_training
from supervised.whole_cnn.last_layer import exchanged, frozen_features, last_linear
from supervised.whole_cnn.module import TunedModule
from supervised.whole_cnn.pixels import Batch
from supervised.whole_cnn.representation_settings import SimclrSettings

_LEAST_SPREAD = 1e-4
_CHECKED_IMAGES = 256


def pretrain(
    network: TunedModule,
    pixels: Dataset[Batch],
    settings: SimclrSettings,
    *,
    random_start: bool,
    seed: int,
    device: str,
    report: Callable[[str], None],
    record: Callable[[str, float, int], None] = lambda *_: None,
) -> None:
    """Train the classifier's layers below its last one, in place; the last layer stays as it is.

    Args:
        network: whose classifier ends in a linear layer; on the CPU, to which it returns.
        pixels: uint8 images of training rows, without augmentation; their labels are not used.
        settings: duration and views.
        random_start: whether the network's weights are random; ``batch_norm: auto`` depends on it.
        seed: of the order, the views and the projection; the global random state is left unchanged.
        device: ``cpu`` or ``cuda``.
        report: receives one sentence with the loss reached.
        record: receives each epoch's mean loss as ``simclr_loss``.

    Raises:
        DataError: fewer than two images.
        MemberCollapsedError: the loss is not finite, or all images get the same features.
        UsageError: the classifier does not end in one linear layer.
    """
    n_images = len(pixels)  # type: ignore[arg-type]
    if n_images < 2:
        raise DataError(
            f"simclr: {n_images} training images, but at least 2 are needed to tell views apart. "
            "Add images or use fewer folds."
        )
    _, last = last_linear(network.classifier)
    batch_size = min(settings.batch_size, n_images)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        projection = nn.Sequential(
            nn.Linear(last.in_features, last.in_features),
            nn.ReLU(),
            nn.Linear(last.in_features, settings.projection_dim),
        )
        with exchanged(network.classifier, projection):
            train_statistics = settings.batch_norm == "trained" or (
                settings.batch_norm == "auto" and random_start
            )
            training = _SimclrTraining(network, settings, batch_size, train_statistics, record)
            run_training(
                training, batches_of(pixels, batch_size, seed), max_epochs=settings.epochs, device=device
            )
    network.eval()
    _require_distinct_features(network, pixels, training.last_loss, device)
    report(
        f"simclr: loss {training.last_loss:.3f} after {settings.epochs} epochs on {n_images} images "
        f"(guessing: {math.log(2 * batch_size - 1):.3f})"
    )


def nt_xent(embeddings: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy of finding an image's other view; a scalar.

    Each of the 2N rows must find its partner among the other 2N - 1 by cosine similarity. Source: Chen et al.
    2020, equation 1 and algorithm 1. With one image there is only one choice and the loss is 0.

    Args:
        embeddings: ``[2 N, d]``: the N first views, then the N second views in the same order.
        temperature: tau.
    """
    n_images = len(embeddings) // 2
    # float(): under mixed precision the similarities would have too few digits.
    z = nn.functional.normalize(embeddings.float(), dim=1)
    similarities = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partner = torch.arange(len(z), device=z.device).roll(n_images)
    return nn.functional.cross_entropy(similarities.masked_fill(itself, float("-inf")), partner)


def random_view(settings: SimclrSettings, size: int) -> Callable[[Tensor], Tensor]:
    """A function from one image, ``[3, s, s]`` uint8, to a random view, ``[3, s, s]`` float32 in 0…1.

    Random numbers come from torch's global generator.

    Args:
        settings: which changes, how strong.
        size: s.
    """
    steps: list[nn.Module] = [
        v2.RandomResizedCrop(size, scale=(settings.crop_scale_min, 1.0), antialias=True)
    ]
    if settings.flips != "none":
        steps.append(v2.RandomHorizontalFlip())
    if settings.flips == "both":
        steps.append(v2.RandomVerticalFlip())
    steps.append(v2.ToDtype(torch.float32, scale=True))
    # The paper's strengths, scaled by one factor.
    if settings.colour > 0.0:
        most = 0.8 * settings.colour
        jitter = v2.ColorJitter(most, most, most, 0.2 * settings.colour)
        steps += [v2.RandomApply([jitter], p=0.8), v2.RandomGrayscale(p=0.2)]
    if settings.blur > 0.0:
        # About a tenth of the side, as in the paper, and odd.
        kernel = max(3, size // 20 * 2 + 1)
        steps.append(v2.RandomApply([v2.GaussianBlur(kernel, sigma=(0.1, 2.0))], p=settings.blur))
    view: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return view


class _SimclrTraining(LightningModule):
    """Two views, one loss, for Lightning's loop."""

    def __init__(
        self,
        network: TunedModule,
        settings: SimclrSettings,
        batch_size: int,
        train_statistics: bool,
        record: Callable[[str, float, int], None],
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.batch_size = batch_size
        self.train_statistics = train_statistics
        self._record = record
        self.last_loss = float("nan")
        self._losses: list[Tensor] = []

    def on_train_epoch_start(self) -> None:
        # As in fine-tuning: on 64 px faces the loss fell much faster with the pre-trained statistics.
        self.network.train(self.train_statistics)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor | None:  # noqa: ARG002
        # A smaller last batch would have few negatives and poor batch statistics. The order changes every
        # epoch, so no image is always skipped. Lightning skips a step that returns None.
        if len(batch.pixels) < self.batch_size:
            return None
        view = random_view(self.settings, batch.pixels.shape[-1])
        views = torch.stack([view(image) for _ in range(2) for image in batch.pixels]) * 255.0
        embeddings = self.network.logits(views.contiguous(memory_format=torch.channels_last))
        loss = nt_xent(embeddings, self.settings.temperature)
        self._losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        self.last_loss = float(torch.stack(self._losses).mean())
        self._record("simclr_loss", self.last_loss, self.current_epoch + 1)
        self._losses.clear()

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.Adam(self.network.parameters(), lr=self.settings.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=self.settings.epochs)
        return {"optimizer": optimiser, "lr_scheduler": schedule}


def _require_distinct_features(
    network: TunedModule, pixels: Dataset[Batch], loss: float, device: str
) -> None:
    """Refuse a network whose features are the same for all images, or not finite."""
    n_checked = min(_CHECKED_IMAGES, len(pixels))  # type: ignore[arg-type]
    features = frozen_features(network, Subset(pixels, range(n_checked)), device)
    directions = nn.functional.normalize(features, dim=1)
    spread = float(directions.var(dim=0, correction=0).sum().sqrt())
    if not (math.isfinite(loss) and spread > _LEAST_SPREAD):
        raise MemberCollapsedError(
            f"simclr: collapsed, the features of {n_checked} images have a spread of {spread:.1e} and the "
            f"loss is {loss:.3f}. Lower simclr.learning_rate, or check that the images differ."
        )
