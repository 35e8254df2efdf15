"""A whole CNN, trained or fine-tuned from the backbone's weights; Lightning's Trainer runs the loop."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from contracts.errors import MemberCollapsedError, UsageError
from contracts.files import Arrays
from contracts.member import FitContext, MemberInput
from contracts.rows import ImageRows, IndexArray, real_positions
from features.settings import BackboneSettings
from features.training import batches_of, run_training
from supervised.labels import require_every_class, rows_to_stop_by
from supervised.logit_member import LogitMember
from supervised.objective import PriorLedger
from supervised.samplers import EpochSampler, class_quotas
from supervised.settings import CnnSettings
from supervised.synthetic.generate import generated_rows
from supervised.whole_cnn.last_layer import frozen_features, last_linear, put_last_linear
from supervised.whole_cnn.module import TunedModule
from supervised.whole_cnn.pixels import PixelDataset
from supervised.whole_cnn.retrain import FeatureRows, refit
from supervised.whole_cnn.simclr import pretrain
from supervised.whole_cnn.training import Tuning

_LEAST_PER_CLASS = 5


class TunedCnn(LogitMember[TunedModule]):
    """A CNN member with ``tune: full``: a whole CNN, trained or fine-tuned."""

    name = "cnn"
    needs: ClassVar[frozenset[MemberInput]] = frozenset({"images"})
    settings: CnnSettings

    @property
    def own_network(self) -> BackboneSettings:
        """The network to train: the member's own if it names one, else the recipe's backbone."""
        return self.settings.network or self.backbone

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Train, with early stopping on a stratified share of the training rows unless that share is 0.

        Augmented copies serve gradient training only. SimCLR, which tells images apart, and ``retrain``,
        which fits on unchanged images, use the real rows. If the context has soft targets, gradients follow
        them instead of the labels; early stopping still uses the labels.

        Raises:
            DataError: a class has fewer than 5 training images.
            UsageError: soft targets with another loss than plain cross-entropy.
            MemberCollapsedError: training diverged.
        """
        if context.targets is not None and (self.settings.loss != "cross_entropy" or self.settings.smoothing):
            raise UsageError(
                f"cnn with tune=full: got soft targets with loss={self.settings.loss}, "
                f"smoothing={self.settings.smoothing:g}. Only plain cross-entropy can learn soft targets."
            )
        real = rows.labels[real_positions(rows)]
        require_every_class("cnn with tune=full", real, rows.n_classes, _LEAST_PER_CLASS)
        fit_positions, stop_positions = np.arange(len(rows), dtype=np.int64), np.empty(0, dtype=np.int64)
        if self.settings.validation_share:
            fit_positions, stop_positions = rows_to_stop_by(
                rows, self.settings.validation_share, context.seed
            )
        real_positions_to_fit = fit_positions[~rows.is_copy[fit_positions]]
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            module = self.initial_module(rows.n_classes, context.seed)
            self.pretrain(module, self._unchanged(rows, real_positions_to_fit), context)
            training = self._train(module, rows, fit_positions, stop_positions, context)
        module.load_state_dict(training.best_state)
        ledger = training.objective.ledger()
        if self.settings.retrain.method != "none":
            ledger = self._retrain(module, rows, real_positions_to_fit, stop_positions, context)
        module.correction.copy_(torch.tensor(ledger.correction))
        self._ledger = ledger.to_json()
        self._module = module.eval()
        return self

    def initial_module(self, n_classes: int, seed: int) -> TunedModule:
        """The network before any training."""
        return TunedModule(self.settings, self.own_network, n_classes, seed)

    def pretrain(self, module: TunedModule, pixels: PixelDataset, context: FitContext) -> None:
        """Pre-train the network on images without labels, if the settings ask for it.

        ``pixels`` must not contain the rows set aside for early stopping, which judge all training so far.
        """
        if self.settings.simclr is not None:
            pretrain(
                module,
                pixels,
                self.settings.simclr,
                random_start=self.own_network.weights_source == "random",
                seed=context.seed,
                device=context.device,
                report=context.report,
                record=context.record,
            )

    def _unchanged(self, rows: ImageRows, positions: IndexArray) -> PixelDataset:
        return PixelDataset(rows, positions, self.settings.image_size)

    def _retrain(
        self,
        module: TunedModule,
        rows: ImageRows,
        fit_positions: IndexArray,
        stop_positions: IndexArray,
        context: FitContext,
    ) -> PriorLedger:
        """Refit the last layer; the layers below it stay as they are."""

        def read(positions: IndexArray) -> FeatureRows:
            pixels = self._unchanged(rows, positions)
            return FeatureRows(frozen_features(module, pixels, context.device), pixels.labels)

        settings = self.settings.retrain
        stop = read(stop_positions) if settings.chooses_tau else None
        _, last = last_linear(module.classifier)
        refitted = refit(settings, last.weight.detach(), last.bias.detach(), read(fit_positions), stop)
        put_last_linear(module.classifier, refitted.weight, refitted.bias)
        if refitted.sentence:
            context.report(refitted.sentence)
        return refitted.ledger

    def _train(
        self,
        module: TunedModule,
        rows: ImageRows,
        fit_positions: IndexArray,
        stop_positions: IndexArray,
        context: FitContext,
    ) -> Tuning:
        s = self.settings
        generated = None
        if s.synthetic is not None:
            generated = generated_rows(rows, fit_positions, s.synthetic, context)
        targets = None if context.targets is None else context.targets[fit_positions]
        dataset = PixelDataset(rows, fit_positions, s.image_size, s.augment, generated, targets)
        labels = dataset.labels.numpy()
        counts = np.bincount(labels, minlength=rows.n_classes).astype(np.int64)
        real = fit_positions[~rows.is_copy[fit_positions]]
        training = Tuning(
            module,
            s,
            shown=torch.from_numpy(class_quotas(s.sampler, counts, s.epochs - 1, s.epochs)),
            trained=torch.from_numpy(np.bincount(rows.labels[real], minlength=rows.n_classes)),
            changing=s.sampler.kind == "progressive" or generated is not None or targets is not None,
            freeze_statistics=s.batch_norm == "frozen"
            or (s.batch_norm == "auto" and (self.own_network.weights_source != "random" or bool(s.simclr))),
            record=context.record,
        )
        run_training(
            training,
            batches_of(
                dataset,
                s.batch_size,
                context.seed,
                sampler=EpochSampler(s.sampler, labels, rows.n_classes, context.seed, s.epochs),
            ),
            validation=self._validation(rows, stop_positions, context.seed),
            max_epochs=s.epochs,
            device=context.device,
            callbacks=self._callbacks(),
            accumulate=s.optimiser.accumulate,
            mixed_precision=None if s.optimiser.precision == "auto" else s.optimiser.precision == "bf16",
        )
        if not s.validation_share:
            # Without early stopping there is no best epoch to fall back on, so the last must be finite.
            training.keep()
            if not all(torch.isfinite(value).all() for value in training.best_state.values()):
                training.best_state = {}
        if not training.best_state:
            raise MemberCollapsedError(
                "cnn with tune=full: training diverged, no epoch had a finite loss. "
                "Lower optimiser.learning_rate."
            )
        best = f", best validation loss {training.best_loss:.4f}" if s.validation_share else ""
        context.report(f"stopped after {training.epochs_run} epochs{best}")
        return training

    def _validation(self, rows: ImageRows, positions: IndexArray, seed: int) -> Any:
        if not len(positions):
            return None
        dataset = PixelDataset(rows, positions, self.settings.image_size)
        return batches_of(dataset, self.settings.batch_size, seed, shuffle=False)

    def _callbacks(self) -> list[Callback]:
        if not self.settings.validation_share:
            return []
        return [EarlyStopping("validation_loss", patience=self.settings.patience)]

    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> TunedModule:  # noqa: ARG002
        # Random weights: the saved ones overwrite them, and nothing is downloaded.
        backbone = self.own_network.model_copy(update={"weights": "random"})
        return TunedModule(self.settings, backbone, int(meta["n_classes"]))
