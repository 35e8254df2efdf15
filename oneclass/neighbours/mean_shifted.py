"""Mean-shifted contrastive adaptation of the backbone's last stage, and kNN on what it then says.

Source: Reiss & Hoshen 2021, "Mean-Shifted Contrastive Loss for Anomaly Detection"
(https://arxiv.org/abs/2106.03844), section 3: contrastive learning seen from the mean of the pre-trained
features rather than from the origin, so that the majority stays in one place while its images are told apart;
scores are distances to the k = 2 nearest adapted majority images. Where we differ: only the layers from the
last change of resolution on are trained, by Adam; views are made a batch at a time and hold no blur; the bank
is bounded; the distance is Euclidean on the unit sphere, which orders as the cosine does for k = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import Dataset

from contracts.errors import DataError, UsageError
from contracts.files import Arrays
from contracts.member import FitContext, Member, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows, majority_positions
from features.apply import score_with_module
from features.backbones import Backbone
from features.settings import BackboneSettings
from features.tensors import BackboneFeatures
from features.training import batches_of, run_training
from oneclass.collapse import require_spread_embeddings
from oneclass.neighbours.nearest import NearestRows, drawn_rows
from oneclass.neighbours.views import random_views
from oneclass.settings import MeanShiftedSettings

_BATCH = 64
_LEAST_LENGTH = 1e-12
_LEAST_SIZE_TO_TELL_STAGES = 128


class MeanShifted(Member):
    """See the module's docstring. Scores are distances between unit vectors, 0…2."""

    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"

    def __init__(self, settings: MeanShiftedSettings, default_backbone: BackboneSettings) -> None:
        self.settings = settings
        backbone = settings.network or default_backbone
        self.backbone = backbone.model_copy(update={"image_size": settings.image_size})
        self._module: MeanShiftedModule | None = None

    @property
    def needs(self) -> frozenset[MemberInput]:
        """Pixels."""
        return frozenset({"images"})

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Adapt the last stage to the majority, then keep the majority's features.

        Raises:
            DataError: no majority rows.
            MemberCollapsedError: the majority's images cannot be told apart, before or after.
            UsageError: the backbone has no stages.
        """
        majority = majority_positions(rows)
        if len(majority) == 0:
            raise DataError("mean_shifted: no majority images to learn from. Check the labels.")
        s = self.settings
        normal = rows.subset(majority)
        embedding = _Embedding(self.backbone)
        images = _Images(normal.subset(drawn_rows(len(normal), s.max_images, context.seed)), s.image_size)
        if len(images) > 1:
            self._adapt(embedding, images, context)
        kept = drawn_rows(len(normal), s.bank_size, context.seed)
        bank = _embed_all(embedding, _Images(normal.subset(kept), s.image_size), context.device)
        module = MeanShiftedModule(embedding, bank, s.neighbours)
        module.nearest.require_distinct("mean_shifted")
        require_spread_embeddings("mean_shifted", bank.numpy(), bank.mean(dim=0).numpy())
        self._module = module.eval()
        return self

    def _adapt(self, embedding: _Embedding, images: _Images, context: FitContext) -> None:
        before = _embed_all(embedding, images, context.device)
        centre = before.mean(dim=0)
        require_spread_embeddings("mean_shifted", before.numpy(), centre.numpy())
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

    def score(self, rows: ImageRows) -> FloatArray:
        """``[N, 1]`` distances."""
        return score_with_module(self.to_module(), rows, self.needs)

    def to_module(self) -> MeanShiftedModule:
        """The fitted module."""
        if self._module is None:
            raise DataError("mean_shifted: not fitted yet.")
        return self._module

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Weights and bank."""
        return {name: value.cpu().numpy() for name, value in self.to_module().state_dict().items()}, {}

    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:  # noqa: ARG002
        """Take over a saved state; the backbone's own weights are not fetched again."""
        state = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        embedding = _Embedding(self.backbone.model_copy(update={"weights": "random"}))
        module = MeanShiftedModule(embedding, state["nearest.bank"], self.settings.neighbours)
        module.load_state_dict(state)
        self._module = module.eval()
        return self


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


def mean_shifted_loss(views: Tensor, other_views: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Contrastive loss of two views of N images, seen from the centre; a scalar.

    An image's features are unit vectors phi; theta = (phi - c) / |phi - c|. Every view asks which of the
    other 2N - 1 is its partner, by the cosine between thetas. Source: equations 5 and 6.

    Args:
        views: ``[N, D]`` unit vectors.
        other_views: ``[N, D]``, in the same order.
        centre: ``[D]``: c, mean of the unit vectors before adaptation.
        temperature: tau.
    """
    theta = nn.functional.normalize(torch.cat([views, other_views]).float() - centre, dim=1)
    similarities = theta @ theta.T / temperature
    itself = torch.eye(len(theta), dtype=torch.bool, device=theta.device)
    partner = torch.arange(len(theta), device=theta.device).roll(len(views))
    return nn.functional.cross_entropy(similarities.masked_fill(itself, float("-inf")), partner)


def last_stage(backbone: nn.Module, sample: Tensor) -> list[nn.Module]:
    """Layers with weights of their own that run from the last change of resolution on, in running order.

    Args:
        backbone: called with ``sample``.
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
    # Squeeze-and-excitation gives maps of one cell along the way.
    deepest = min((side for side in sides if side > 1), default=0)
    if not sides or deepest == max(sides):
        raise UsageError(
            f"mean_shifted: backbone {type(backbone).__name__} has no stages of falling resolution. Choose a "
            "convolutional one with network={name: ...}, such as resnet18."
        )
    first = next(place for place, (_, side) in enumerate(ran) if side == deepest)
    return list(dict.fromkeys(layer for layer, _ in ran[first:]))


class _MeanShiftedTraining(LightningModule):
    """Two views, one loss, for Lightning's loop. Batch statistics stay as pre-trained."""

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
        """Let gradients reach the last stage alone."""
        # In small images the last stage has one cell, as squeeze-and-excitation has everywhere.
        size = max(self.settings.image_size, _LEAST_SIZE_TO_TELL_STAGES)
        for layer in last_stage(self.embedding, torch.zeros(1, 3, size, size)):
            layer.requires_grad_(True)

    def on_train_epoch_start(self) -> None:
        self.embedding.eval()

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor | None:  # noqa: ARG002
        # One image has nothing to be told apart from. None makes Lightning pass over the step.
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
    """Rows as batches of ``[B, 3, s, s]`` float32 pixels 0…255."""

    def __init__(self, rows: ImageRows, size: int) -> None:
        self.rows, self.size = rows, size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: list[int]) -> Tensor:
        """``[B, 3, s, s]``; DataLoader asks for whole batches through this."""
        images = torch.from_numpy(self.rows.images(np.array(positions, dtype=np.int64)))
        return _resized(images.permute(0, 3, 1, 2).float(), self.size)


def _resized(images: Tensor, size: int) -> Tensor:
    return nn.functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def _embed_all(embedding: _Embedding, images: _Images, device: str) -> Tensor:
    """``[N, D]`` unit vectors, on the CPU, to which the network also returns."""
    embedding.eval().to(device)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            pixels = images.__getitems__(list(range(start, min(start + _BATCH, len(images)))))
            parts.append(embedding(pixels.to(device)).cpu())
    embedding.to("cpu")
    # A copy made outside of inference mode can be part of a loss again.
    return torch.cat(parts).clone()
