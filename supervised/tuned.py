"""A whole CNN, fine-tuned from the trunk's weights; Lightning's Trainer runs the loop."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.utils.data import Dataset

from contracts.errors import DataError, MemberCollapsedError
from contracts.files import Arrays
from contracts.member import FitContext, Member, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows, IndexArray
from features.apply import score_with_module
from features.settings import TrunkSettings
from features.tensors import TrunkFeatures
from features.training import batches_of, run_training
from features.weights import build_classifier
from supervised.labels import early_stopping_split, require_every_class, score_columns
from supervised.objective import Objective
from supervised.settings import CnnSettings

_LEAST_PER_CLASS = 5
_PRELOAD_BYTES = 1 << 30
Record = Callable[[str, float, int], None]


class TunedCnn(Member):
    """A CNN member with ``tune: full``. Scores are log-odds of the minority (logits for K > 2)."""

    kind: ClassVar[MemberKind] = "supervised"
    score_meaning: ClassVar[ScoreMeaning] = "logit"

    def __init__(self, settings: CnnSettings, default_backbone: TrunkSettings) -> None:
        self.settings = settings
        self.backbone = settings.backbone or default_backbone
        self._module: TunedModule | None = None
        self._ledger: dict[str, Any] = {}

    @property
    def needs(self) -> frozenset[MemberInput]:
        """Pixels."""
        return frozenset({"images"})

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Fine-tune with early stopping on a stratified share of the training rows.

        Raises:
            DataError: a class has fewer than 5 training images.
        """
        require_every_class("cnn with tune=full", rows.labels, rows.n_classes, _LEAST_PER_CLASS)
        fit_positions, stop_positions = early_stopping_split(
            rows.labels, rows.groups, self.settings.validation_share, context.seed
        )
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            module = TunedModule(self.settings, self.backbone, rows.n_classes)
            training = _Tuning(module, self.settings, rows.labels[fit_positions], context.record)
            size = self.settings.image_size
            run_training(
                training,
                batches_of(_PixelDataset(rows, fit_positions, size), self.settings.batch_size, context.seed),
                validation=batches_of(
                    _PixelDataset(rows, stop_positions, size),
                    self.settings.batch_size,
                    context.seed,
                    shuffle=False,
                ),
                max_epochs=self.settings.epochs,
                device=context.device,
                callbacks=[EarlyStopping("validation_loss", patience=self.settings.patience)],
            )
        if not training.best_state:
            raise MemberCollapsedError(
                "cnn with tune=full: training diverged, no epoch had a finite validation loss. "
                "Lower learning_rate."
            )
        module.load_state_dict(training.best_state)
        ledger = training.objective.ledger()
        module.correction.copy_(torch.tensor(ledger.correction))
        self._ledger = ledger.to_json()
        context.report(
            f"stopped after {training.epochs_run} epochs, best validation loss {training.best_loss:.4f}"
        )
        self._module = module.eval()
        return self

    def score(self, rows: ImageRows) -> FloatArray:
        """``[N, 1]`` log-odds for two classes, ``[N, K]`` centred logits for more."""
        return score_with_module(self.to_module(), rows, self.needs)

    def to_module(self) -> TunedModule:
        """The fitted module."""
        if self._module is None:
            raise DataError("cnn: not fitted yet.")
        return self._module

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """All weights."""
        module = self.to_module()
        arrays = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}
        return arrays, {"n_classes": module.n_classes, "prior_ledger": self._ledger}

    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:
        """Take over a saved state; the backbone's own weights are not fetched again."""
        backbone = self.backbone.model_copy(update={"weights": "random"})
        module = TunedModule(self.settings, backbone, int(meta["n_classes"]))
        module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        self._ledger = meta["prior_ledger"]
        self._module = module.eval()
        return self


class TunedModule(nn.Module):
    """Resize to the CNN's own size, normalise, classify.

    Args:
        settings: image size.
        backbone: which model, with which weights to start from.
        n_classes: K.
    """

    mean: Tensor
    std: Tensor
    correction: Tensor

    def __init__(self, settings: CnnSettings, backbone: TrunkSettings, n_classes: int) -> None:
        super().__init__()
        self.image_size = settings.image_size
        self.n_classes = n_classes
        classifier, mean, std = build_classifier(backbone.name, backbone.weights_source, n_classes)
        # Convolutions on channels-last tensors are the faster ones; a restored module must have the same
        # layout as the trained one, or its scores would differ in the last digits.
        self.classifier: Any = classifier.to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255.0)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255.0)
        # What brings the logits back to the training rows' class shares; see the prior ledger.
        self.register_buffer("correction", torch.zeros(n_classes))

    def resize(self, images: Tensor) -> Tensor:
        """``[N, 3, s, s]`` from ``[N, 3, S, S]``, antialiased."""
        size = (self.image_size, self.image_size)
        return nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True)

    def logits(self, resized: Tensor) -> Tensor:
        """``[N, K]`` from pixels 0…255 at the CNN's own size."""
        logits: Tensor = self.classifier((resized - self.mean) / self.std)
        return logits

    def forward(self, features: TrunkFeatures) -> tuple[Tensor, None]:
        """Return score columns; there is no map."""
        return score_columns(self.logits(self.resize(features.images)) + self.correction), None


class _PixelDataset(Dataset[tuple[Tensor, Tensor]]):
    """Pixels at the CNN's own size as uint8, with labels; kept in memory where they fit into 1 GiB."""

    def __init__(self, rows: ImageRows, positions: IndexArray, size: int) -> None:
        self.rows, self.positions, self.size = rows, positions, size
        self.labels = torch.from_numpy(rows.labels[positions])
        self._kept: list[Tensor | None] = [None] * len(positions)
        self._keeps = len(positions) * 3 * size * size <= _PRELOAD_BYTES

    def __len__(self) -> int:
        return len(self.positions)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """``[B, 3, s, s]`` uint8 and ``[B]`` labels."""
        pixels = [self._one(index) for index in indices]
        return torch.stack(pixels), self.labels[indices]

    def _one(self, index: int) -> Tensor:
        kept = self._kept[index]
        if kept is None:
            image = torch.from_numpy(self.rows.images(self.positions[index : index + 1]))
            resized = nn.functional.interpolate(
                image.permute(0, 3, 1, 2).float(),
                size=(self.size, self.size),
                mode="bilinear",
                antialias=True,
            )
            kept = resized[0].round().clamp(0, 255).to(torch.uint8)
            if self._keeps:
                self._kept[index] = kept
        return kept


class _Tuning(LightningModule):
    """Objective, optimiser, and the best state so far, for Lightning's loop."""

    def __init__(
        self, module: TunedModule, settings: CnnSettings, labels: np.ndarray, record: Record = lambda *_: None
    ) -> None:
        super().__init__()
        self.module = module
        self.record = record
        self.settings = settings
        self.counts = torch.bincount(torch.from_numpy(labels), minlength=module.n_classes)
        self.objective = Objective(settings, self.counts)
        self.best_loss = float("inf")
        self.best_state: dict[str, Tensor] = {}
        self.epochs_run = 0
        self._validation: list[tuple[Tensor, Tensor]] = []
        self._losses: list[Tensor] = []

    def on_fit_start(self) -> None:
        # Class weights and margins belong where the logits are.
        self.objective = Objective(self.settings, self.counts.to(self.device))

    def _logits(self, pixels: Tensor) -> Tensor:
        return self.module.logits(pixels.float().contiguous(memory_format=torch.channels_last)).float()

    def on_train_epoch_start(self) -> None:
        # Batch normalisation keeps the statistics of pre-training, and dropout is off: batches of 32 with a
        # handful of minority images estimate worse ones. On the ELPV solar cells (700 : 50) it is worth
        # about 0.03 of AUROC.
        self.module.classifier.eval()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:  # noqa: ARG002
        pixels, labels = batch
        progress = self.current_epoch / self.settings.epochs
        loss = self.objective(self._logits(self._flip(pixels)), labels, progress)
        self._losses.append(loss.detach())
        return loss

    def _flip(self, pixels: Tensor) -> Tensor:
        for axis, active in ((3, self.settings.flips != "none"), (2, self.settings.flips == "both")):
            if active:
                mirrored = torch.rand(len(pixels), device=pixels.device) < 0.5
                pixels = torch.where(mirrored[:, None, None, None], pixels.flip(axis), pixels)
        return pixels

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:  # noqa: ARG002
        pixels, labels = batch
        self._validation.append((self._logits(pixels), labels))

    def on_validation_epoch_end(self) -> None:
        # All rows at once, as F1 and AUC forms are no means over batches; always the final form, so that
        # epochs can be compared.
        logits, labels = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        loss = float(self.objective(logits, labels))
        self._validation.clear()
        self.epochs_run += 1
        self.log("validation_loss", loss)
        # The batches' mean; an epoch's validation ends before its training does, so both are here.
        self.record("training_loss", float(torch.stack(self._losses).mean()), self.epochs_run)
        self.record("validation_loss", loss, self.epochs_run)
        self._losses.clear()
        if loss < self.best_loss:
            self.best_loss = loss
            state = copy.deepcopy(self.module.state_dict())
            self.best_state = {name: value.cpu().contiguous() for name, value in state.items()}

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(
            self.module.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=self.settings.epochs)
        return {"optimizer": optimiser, "lr_scheduler": schedule}
