"""The training of a whole CNN: objective, optimiser, weight averaging, and the best state so far."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from supervised.losses import soft_cross_entropy
from supervised.objective import Objective
from supervised.settings import CnnSettings
from supervised.whole_cnn.module import TunedModule
from supervised.whole_cnn.optimisers import build_optimiser, learning_rate_factor
from supervised.whole_cnn.pixels import Batch


class Tuning(LightningModule):
    """The module that Lightning's loop trains.

    Args:
        module: the network, changed in place.
        settings: of the member.
        shown: ``[K]`` rows of each class that an epoch shows.
        trained: ``[K]`` rows of each class before sampling.
        changing: whether the shown shares change during training, or there are synthetic rows or soft
            targets.
        freeze_statistics: keep the statistics of batch normalisation and switch dropout off.
        record: receives both losses of every epoch; see :class:`contracts.member.FitContext`.

    Attributes:
        best_state: weights of the epoch with the lowest validation loss; of the last epoch if no rows are
            set aside.
        best_loss: that loss.
        epochs_run: epochs finished.
    """

    def __init__(
        self,
        module: TunedModule,
        settings: CnnSettings,
        shown: Tensor,
        trained: Tensor,
        changing: bool,
        freeze_statistics: bool,
        record: Callable[[str, float, int], None] = lambda *_: None,
    ) -> None:
        super().__init__()
        self.module = module
        self.settings = settings
        self._counts = (shown, trained)
        self._changing = changing
        self._freeze_statistics = freeze_statistics
        self._record = record
        self._losses: list[Tensor] = []
        self.objective = Objective(settings, shown, trained, changing)
        self.averaged: AveragedModel | None = None
        if settings.optimiser.ema:
            average = get_ema_multi_avg_fn(settings.optimiser.ema)  # type: ignore[no-untyped-call]
            self.averaged = AveragedModel(module, multi_avg_fn=average, use_buffers=True)
        self.best_loss = float("inf")
        self.best_state: dict[str, Tensor] = {}
        self.epochs_run = 0
        self._validation: list[tuple[Tensor, Tensor]] = []

    def on_fit_start(self) -> None:
        """Move class weights and margins to the device of the logits."""
        shown, trained = (counts.to(self.device) for counts in self._counts)
        self.objective = Objective(self.settings, shown, trained, self._changing)

    def on_train_epoch_start(self) -> None:
        """Set the mode of batch normalisation and dropout."""
        # With pre-trained weights, batch normalisation keeps their statistics and dropout is off: batches of
        # 32 with a handful of minority images give worse estimates. On the ELPV solar cells (700 : 50) this
        # is worth about 0.03 of AUROC.
        self.module.classifier.train(not self._freeze_statistics)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:  # noqa: ARG002
        """Loss of a batch."""
        logits = _logits(self.module, batch.pixels)
        progress = self.current_epoch / self.settings.epochs
        loss = self._loss(logits, batch, progress)
        self._losses.append(loss.detach())
        return loss

    def _loss(self, logits: Tensor, batch: Batch, progress: float) -> Tensor:
        if batch.targets is not None:
            return soft_cross_entropy(logits, batch.targets).mean()
        if self.settings.augment.mix == "none":
            return self.objective(logits, batch.labels, progress)
        # The losses of both labels, weighted by the shares of their pixels. The clamp keeps a share of
        # exactly 0 from making all row weights of a batch 0, which would be a division by 0.
        own = batch.share.to(logits.dtype)
        rest = 1.0 - own
        loss = own.mean() * self.objective(logits, batch.labels, progress, own.clamp_min(1e-6))
        partners = self.objective(logits, batch.partner_labels, progress, rest.clamp_min(1e-6))
        return loss + rest.mean() * partners

    def on_train_batch_end(self, *_: Any) -> None:
        """Update the moving average of the weights."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.module)

    @property
    def current(self) -> TunedModule:
        """The network that is validated and kept."""
        if self.averaged is None:
            return self.module
        averaged: Any = self.averaged.module
        network: TunedModule = averaged
        return network

    def on_validation_epoch_start(self) -> None:
        """Dropout off."""
        self.current.eval()

    def validation_step(self, batch: Batch, batch_index: int) -> None:  # noqa: ARG002
        """Collect logits."""
        self._validation.append((_logits(self.current, batch.pixels), batch.labels))

    def on_validation_epoch_end(self) -> None:
        """Measure the epoch and keep it if it is the best."""
        # All rows at once, because the F1 and AUC forms are not means over batches; and always in the final
        # form of the loss, so that epochs are comparable.
        logits, labels = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        loss = self._validation_loss(logits, labels)
        self.log("validation_loss", loss)
        self._record("validation_loss", loss, self.current_epoch + 1)
        if loss < self.best_loss:
            self.best_loss = loss
            self.keep()

    def _validation_loss(self, logits: Tensor, labels: Tensor) -> float:
        """Loss of rows that have the class shares of training before sampling.

        If the ledger's correction is exact, it is the cross-entropy of the corrected logits. Otherwise it is
        the objective itself, with classes weighted as training showed them.
        """
        ledger = self.objective.ledger()
        if ledger.exact:
            corrected = logits + torch.tensor(ledger.correction, device=logits.device)
            return float(torch.nn.functional.cross_entropy(corrected, labels))
        shown, trained = (counts.to(logits.device).double() for counts in self._counts)
        weights = (shown / shown.sum()) / (trained / trained.sum())
        return float(self.objective(logits, labels, 1.0, weights[labels].float()))

    def on_train_epoch_end(self) -> None:
        """Count the epoch and record its mean loss."""
        self.epochs_run += 1
        self._record("training_loss", float(torch.stack(self._losses).mean()), self.epochs_run)
        self._losses.clear()

    def keep(self) -> None:
        """Keep a copy of the current weights as the best."""
        # A state dict holds references; without a copy the best weights would go on training.
        state = copy.deepcopy(self.current.state_dict())
        self.best_state = {name: value.cpu().contiguous() for name, value in state.items()}

    def configure_optimizers(self) -> Any:
        """Optimiser, and a learning rate that changes with every step."""
        settings, epochs = self.settings.optimiser, self.settings.epochs
        optimiser = build_optimiser(settings, self.module)
        # The learning rate follows fractions of an epoch, so that runs with few, long epochs warm up
        # smoothly.
        steps = max(1, self.trainer.estimated_stepping_batches) / epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: learning_rate_factor(settings, step / steps, epochs)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _logits(module: TunedModule, pixels: Tensor) -> Tensor:
    return module.logits(pixels.float().contiguous(memory_format=torch.channels_last)).float()
