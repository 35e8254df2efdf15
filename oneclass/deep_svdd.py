"""Deep SVDD: a network without biases that draws majority images together around a centre.

Source: Ruff et al. 2018, "Deep One-Class Classification" (ICML,
https://proceedings.mlr.press/v80/ruff18a.html), equations 3 (soft boundary) and 4 (one-class). Where we
differ: the network reads the frozen trunk's patch features instead of pixels, so neither autoencoder
pre-training nor many epochs are needed.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from contracts.errors import DataError, MemberCollapsedError
from contracts.files import Arrays
from contracts.member import FitContext, Member, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows, majority_positions
from features.apply import score_with_module
from features.tensors import TrunkFeatures
from features.training import PatchDataset, batches_of, run_training
from oneclass.collapse import require_distinct_scores
from oneclass.settings import DeepSVDDSettings

_LEAST_CENTRE_COORDINATE = 0.1
_LEAST_CENTRE_NORM = 1e-3


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
        normal = rows.subset(normal_positions)
        mean, std = _channel_statistics(normal)
        for attempt in range(self.settings.attempts):
            with torch.random.fork_rng():
                torch.manual_seed(context.seed + attempt)
                module = DeepSVDDModule(self.settings, mean, std)
                try:
                    self._train(module, normal, context.seed + attempt, context.device)
                    self._module = module
                    self._require_alive(normal)
                except MemberCollapsedError as collapse:
                    self._module = None
                    if attempt + 1 == self.settings.attempts:
                        raise MemberCollapsedError(
                            f"{collapse} {self.settings.attempts} initialisations were tried."
                        ) from collapse
                    context.report(f"{collapse} Initialising anew.")
                    continue
            break
        return self

    def _train(self, module: DeepSVDDModule, normal: ImageRows, seed: int, device: str) -> None:
        loader = batches_of(PatchDataset(normal), self.settings.batch_size, seed)
        module.centre.copy_(_initial_centre(module, loader))
        if float(module.centre.norm()) < _LEAST_CENTRE_NORM:
            raise MemberCollapsedError("deep_svdd: the centre is the origin, which all-zero weights reach.")
        run_training(
            _DeepSVDDTraining(module, self.settings), loader, max_epochs=self.settings.epochs, device=device
        )

    def _require_alive(self, normal: ImageRows) -> None:
        sample = np.arange(0, len(normal), max(1, len(normal) // 256))
        require_distinct_scores("deep_svdd", self.score(normal.subset(sample)))

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
        module = DeepSVDDModule(self.settings, state["mean"].flatten(), state["std"].flatten())
        module.load_state_dict(state)
        self._module = module
        return self


class DeepSVDDModule(nn.Module):
    """The network phi with its centre c. No layer has a bias: a bias could learn the centre by itself.

    Args:
        settings: sizes.
        mean: ``[C]`` of the majority's patches.
        std: ``[C]``.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    radius: Tensor

    def __init__(self, settings: DeepSVDDSettings, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        hidden = settings.hidden
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))
        self.register_buffer("centre", torch.zeros(settings.embedding_dim))
        self.register_buffer("radius", torch.zeros(()))
        self.phi = nn.Sequential(
            nn.Conv2d(mean.numel(), hidden, kernel_size=1, bias=False),
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, hidden, kernel_size=3, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, settings.embedding_dim, kernel_size=1, bias=False),
        )

    def embed(self, patches: Tensor) -> Tensor:
        """``[N, d]`` embeddings of ``[N, C, g, g]`` patches."""
        embedding: Tensor = self.phi((patches - self.mean) / self.std).mean(dim=(2, 3))
        return embedding

    def forward(self, features: TrunkFeatures) -> tuple[Tensor, None]:
        """Return ``[N, 1]`` distances from the centre; there is no map."""
        squared = (self.embed(features.patches) - self.centre).square().sum(dim=1, keepdim=True)
        return squared.sqrt(), None


class _DeepSVDDTraining(LightningModule):
    """The two objectives, for Lightning's loop."""

    def __init__(self, module: DeepSVDDModule, settings: DeepSVDDSettings) -> None:
        super().__init__()
        self.module = module
        self.settings = settings
        self._squared_of_epoch: list[Tensor] = []

    def training_step(self, patches: Tensor, batch_index: int) -> Tensor:  # noqa: ARG002
        squared = (self.module.embed(patches) - self.module.centre).square().sum(dim=1)
        self._squared_of_epoch.append(squared.detach())
        if self.settings.objective == "one_class" or self.current_epoch < self.settings.warm_up_epochs:
            return squared.mean()
        r_squared = self.module.radius.square()
        return r_squared + (squared - r_squared).clamp_min(0.0).mean() / self.settings.nu

    def on_train_epoch_end(self) -> None:
        # R solves its own minimum: the (1 - nu) quantile of the distances (section 3.4 of the paper).
        distances = torch.cat(self._squared_of_epoch).sqrt()
        self.module.radius.copy_(torch.quantile(distances.float(), 1.0 - self.settings.nu))
        self._squared_of_epoch.clear()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            self.module.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )


def _channel_statistics(normal: ImageRows) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``[C]`` over all patches of the majority, in one streamed pass."""
    count, total, total_squared = 0, 0.0, 0.0
    for batch in normal.patches():
        wide = batch.astype(np.float64)
        count += wide.shape[0] * wide.shape[2] * wide.shape[3]
        total = total + wide.sum(axis=(0, 2, 3))
        total_squared = total_squared + np.square(wide).sum(axis=(0, 2, 3))
    mean = np.asarray(total) / count
    variance = np.maximum(np.asarray(total_squared) / count - mean**2, 0.0)
    return torch.tensor(mean).float(), torch.tensor(np.sqrt(variance) + 1e-6).float()


def _initial_centre(module: DeepSVDDModule, loader: Any) -> Tensor:
    """Mean embedding of a first pass, with small coordinates pushed away from 0 (section 4.2)."""
    with torch.no_grad():
        embeddings = torch.cat([module.embed(batch) for batch in loader])
    centre = embeddings.mean(dim=0)
    small = centre.abs() < _LEAST_CENTRE_COORDINATE
    return torch.where(small, torch.where(centre < 0, -1.0, 1.0) * _LEAST_CENTRE_COORDINATE, centre)
