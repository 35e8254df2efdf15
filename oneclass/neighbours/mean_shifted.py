"""Mean-shifted contrastive adaptation of the backbone's last stage, and kNN on the adapted features.

Source: Reiss & Hoshen 2021, "Mean-Shifted Contrastive Loss for Anomaly Detection"
(https://arxiv.org/abs/2106.03844), section 3: contrastive learning seen from the mean of the pre-trained
features instead of from the origin. The majority stays in one place while its images are told apart. Scores
are distances to the k = 2 nearest adapted majority images. We differ as follows: only the layers after the
last change of resolution are trained, by Adam; views are made one batch at a time and never blurred; the bank
is bounded; the distance is Euclidean on the unit sphere, which for k = 1 gives the same order as the cosine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import Dataset

from contracts.errors import UsageError
from contracts.files import Arrays
from contracts.member import FitContext, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import ImageRows
from features.backbones import Backbone
from features.member import ModuleMember
from features.settings import BackboneSettings
from features.tensors import BackboneFeatures
from features.training import batches_of, run_training
from oneclass.collapse import require_spread_embeddings
from oneclass.majority import drawn_rows, families_of, majority_rows
from oneclass.neighbours.nearest import NearestRows
from oneclass.neighbours.settings import MeanShiftedSettings
from oneclass.neighbours.views import random_views

_BATCH = 64
_LEAST_LENGTH = 1e-12
_LEAST_SIZE_TO_TELL_STAGES = 128


class _Embedding(nn.Module):
    """Pixels 0…255 at the backbone's size to unit vectors ``[N, D]`` of its pre-logits."""

    def __init__(self, backbone: BackboneSettings) -> None:
        super().__init__()
        self.backbone = Backbone(backbone).to(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> Tensor:
        _, final = self.backbone.layers((pixels - self.backbone.mean) / self.backbone.std)
        lengths: Tensor = final.norm(dim=1, keepdim=True)
        unit: Tensor = final / lengths.clamp_min(_LEAST_LENGTH)
        return unit


class MeanShiftedModule(nn.Module):
    """Working pixels to scores.

    Args:
        embedding: adapted network.
        bank: ``[B, D]`` unit vectors of majority images.
        neighbours: k.
    """

    def __init__(self, embedding: _Embedding, bank: Tensor, neighbours: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.nearest = NearestRows(bank, neighbours)

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, None]:
        """Return ``[N, 1]`` distances; there is no map."""
        pixels = _resized(features.images, self.embedding.backbone.settings.image_size)
        return self.nearest(self.embedding(pixels))[:, None], None


class MeanShifted(ModuleMember[MeanShiftedModule]):
    """See the module's docstring. Raw scores are distances between unit vectors, 0…2."""

    name = "mean_shifted"
    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"
    needs: ClassVar[frozenset[MemberInput]] = frozenset({"images"})
    settings: MeanShiftedSettings

    @property
    def own_network(self) -> BackboneSettings:
        """The network to adapt, at the member's own image size: it sees the picture as a whole."""
        backbone = self.settings.network or self.backbone
        return backbone.model_copy(update={"image_size": self.settings.image_size, "tiles": 1})

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Adapt the last stage to the majority, then keep the majority's features.

        Raises:
            DataError: no majority rows.
            MemberCollapsedError: the majority's images cannot be told apart, before or after adaptation.
            UsageError: the backbone has no stages.
        """
        s = self.settings
        normal = majority_rows(self.name, rows)
        embedding = _Embedding(self.own_network)
        images = _Images(normal.subset(drawn_rows(len(normal), s.max_images, context.seed)), s.image_size)
        if len(images) > 1:
            self._adapt(embedding, images, context)
        kept = drawn_rows(len(normal), s.bank_size, context.seed)
        in_bank = normal.subset(kept)
        bank = _embed_all(embedding, _Images(in_bank, s.image_size), context.device)
        module = MeanShiftedModule(embedding, bank, s.neighbours)
        reference = module.nearest.reference(self.name, families_of(in_bank))
        require_spread_embeddings(self.name, bank.numpy(), bank.mean(dim=0).numpy())
        self._module = module.eval()
        self._standardise(reference)
        return self

    def _adapt(self, embedding: _Embedding, images: _Images, context: FitContext) -> None:
        before = _embed_all(embedding, images, context.device)
        # The centre is that of the pre-trained features and stays fixed, as in the source.
        centre = before.mean(dim=0)
        # Images that the pre-trained features cannot tell apart leave the loss nothing to start from.
        require_spread_embeddings(self.name, before.numpy(), centre.numpy())
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            training = _MeanShiftedTraining(embedding, centre, self.settings, context.record)
            training.train_last_stage()
            run_training(
                training,
                batches_of(images, self.settings.batch_size, context.seed),
                max_epochs=self.settings.epochs,
                device=context.device,
            )
        embedding.eval().requires_grad_(False)
        context.report(
            f"mean-shifted loss {training.losses[0]:.3f} to {training.losses[-1]:.3f} on {len(images)} images"
        )

    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> MeanShiftedModule:  # noqa: ARG002
        # Random weights: the saved ones overwrite them, and nothing is downloaded.
        embedding = _Embedding(self.own_network.model_copy(update={"weights": "random"}))
        bank = torch.from_numpy(np.array(arrays["nearest.bank"]))
        return MeanShiftedModule(embedding, bank, self.settings.neighbours)


def mean_shifted_loss(views: Tensor, other_views: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Contrastive loss of two views of N images, seen from the centre; a scalar.

    An image's features are unit vectors phi, and theta = (phi - c) / |phi - c|. Each of the 2N views must
    find its partner among the other 2N - 1 by the cosine between thetas. Source: equations 5 and 6.

    Args:
        views: ``[N, D]`` unit vectors.
        other_views: ``[N, D]``, in the same order.
        centre: ``[D]``: c, mean of the unit vectors before adaptation.
        temperature: tau.
    """
    # float(): under mixed precision, differences of nearly equal unit vectors would lose their digits.
    theta = nn.functional.normalize(torch.cat([views, other_views]).float() - centre, dim=1)
    similarities = theta @ theta.T / temperature
    itself = torch.eye(len(theta), dtype=torch.bool, device=theta.device)
    # Views i and i + N belong together; rolling by N maps each to its partner in both halves.
    partner = torch.arange(len(theta), device=theta.device).roll(len(views))
    return nn.functional.cross_entropy(similarities.masked_fill(itself, float("-inf")), partner)


def last_stage(backbone: nn.Module, sample: Tensor) -> list[nn.Module]:
    """Layers with weights of their own that run after the last change of resolution, in the order they run.

    Args:
        backbone: network to look into; it is called with ``sample``.
        sample: ``[1, 3, s, s]``.

    Raises:
        UsageError: no layer gives maps, or all maps have one size, as in a vision transformer.
    """
    ran: list[tuple[nn.Module, int]] = []

    def watch(layer: nn.Module, _inputs: Any, output: Any) -> None:
        side = output.shape[-1] if isinstance(output, Tensor) and output.ndim == 4 else 0
        ran.append((layer, int(side)))

    layers = [
        layer for layer in backbone.modules() if next(layer.parameters(recurse=False), None) is not None
    ]
    hooks = [layer.register_forward_hook(watch) for layer in layers]
    try:
        with torch.no_grad():
            backbone(sample)
    finally:
        for hook in hooks:
            hook.remove()
    sides = [side for _, side in ran if side > 0]
    # Maps of one cell are squeeze-and-excitation's, which occur at every depth.
    deepest = min((side for side in sides if side > 1), default=0)
    if not sides or deepest == max(sides):
        raise UsageError(
            f"mean_shifted: backbone {type(backbone).__name__} has no stages of decreasing resolution. "
            "Choose a convolutional one with network={name: ...}, such as resnet18."
        )
    first = next(place for place, (_, side) in enumerate(ran) if side == deepest)
    return list(dict.fromkeys(layer for layer, _ in ran[first:]))


class _MeanShiftedTraining(LightningModule):
    """Two views and one loss, for Lightning's loop. Batch normalisation keeps its pre-trained statistics."""

    def __init__(
        self,
        embedding: _Embedding,
        centre: Tensor,
        settings: MeanShiftedSettings,
        record: Callable[[str, float, int], None],
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.register_buffer("centre", centre)
        self.settings = settings
        self.losses: list[float] = []
        self._record = record
        self._losses_of_epoch: list[Tensor] = []

    def train_last_stage(self) -> None:
        """Let gradients reach only the last stage."""
        # In small images the last stage has a single cell and could not be told from squeeze-and-excitation.
        size = max(self.settings.image_size, _LEAST_SIZE_TO_TELL_STAGES)
        for layer in last_stage(self.embedding, torch.zeros(1, 3, size, size)):
            layer.requires_grad_(True)

    def on_train_epoch_start(self) -> None:
        self.embedding.eval()

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor | None:  # noqa: ARG002
        # A single image has no negatives. Lightning skips a step that returns None.
        if len(batch) < 2:
            return None
        s = self.settings
        pixels = torch.cat([batch, batch]).float()
        views = random_views(pixels, s.crop_scale_min, s.flips, s.colour)
        one, other = self.embedding(views.contiguous(memory_format=torch.channels_last)).chunk(2)
        assert isinstance(self.centre, Tensor)
        loss = mean_shifted_loss(one, other, self.centre, s.temperature)
        self._losses_of_epoch.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        self.losses.append(float(torch.stack(self._losses_of_epoch).mean()))
        self._record("training_loss", self.losses[-1], self.current_epoch + 1)
        self._losses_of_epoch.clear()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [weight for weight in self.embedding.parameters() if weight.requires_grad]
        return torch.optim.Adam(trained, lr=self.settings.learning_rate)


class _Images(Dataset[Tensor]):
    """Batches ``[B, 3, s, s]`` of float32 pixels 0…255."""

    def __init__(self, rows: ImageRows, size: int) -> None:
        self.rows, self.size = rows, size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: list[int]) -> Tensor:
        """``[B, 3, s, s]``; DataLoader calls this once per batch."""
        images = torch.from_numpy(self.rows.images(np.array(positions, dtype=np.int64)))
        return _resized(images.permute(0, 3, 1, 2).float(), self.size)


def _resized(images: Tensor, size: int) -> Tensor:
    return nn.functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def _embed_all(embedding: _Embedding, images: _Images, device: str) -> Tensor:
    """``[N, D]`` unit vectors on the CPU; the network is on the CPU afterwards, too."""
    embedding.eval().to(device)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            pixels = images.__getitems__(list(range(start, min(start + _BATCH, len(images)))))
            parts.append(embedding(pixels.to(device)).cpu())
    embedding.to("cpu")
    # Tensors made in inference mode cannot take part in a loss; a clone made outside of it can.
    return torch.cat(parts).clone()
