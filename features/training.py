"""Running Lightning's Trainer without output, reproducibly and interruptibly; the loop is Lightning's."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, Dataset, Sampler


def batches_of(
    dataset: Dataset[Any],
    batch_size: int,
    seed: int,
    shuffle: bool = True,
    sampler: Sampler[int] | None = None,
) -> DataLoader[Any]:
    """A loader over a dataset that builds whole batches itself (``__getitems__``).

    Args:
        dataset: with ``__getitems__`` that returns a whole batch.
        batch_size: rows per batch.
        seed: of the shuffle.
        shuffle: draw every row once in random order; False keeps the order.
        sampler: draws rows instead of the shuffle. A single row left over at the end of an epoch is dropped,
            because batch normalisation cannot compute a variance from one row.
    """
    if sampler is None:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            shuffle=shuffle,
            generator=torch.Generator().manual_seed(seed),
            collate_fn=lambda batch: batch,
        )
    drawn = len(sampler)  # type: ignore[arg-type]
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=drawn > batch_size and drawn % batch_size == 1,
        generator=torch.Generator().manual_seed(seed),
        collate_fn=lambda batch: batch,
    )


def run_training(
    module: LightningModule,
    loader: DataLoader[Any],
    *,
    max_epochs: int,
    device: str,
    validation: DataLoader[Any] | None = None,
    callbacks: Sequence[Callback] = (),
    accumulate: int = 1,
    mixed_precision: bool | None = None,
) -> None:
    """Train ``module`` in place.

    Args:
        module: with its losses and optimisers.
        loader: training batches.
        max_epochs: largest number of epochs.
        device: ``cpu`` or ``cuda``.
        validation: batches for early stopping.
        callbacks: Lightning callbacks.
        accumulate: batches whose gradients make one step.
        mixed_precision: bfloat16 where operations allow it, with float32 weights; None means only on a GPU.

    Raises:
        KeyboardInterrupt: the user interrupted (Lightning would exit the process instead).
    """
    mixed = device == "cuda" if mixed_precision is None else mixed_precision
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Lightning's advice about data loader workers and logging intervals does not concern our users.
        warnings.simplefilter("ignore")
        trainer = Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            max_epochs=max_epochs,
            precision="bf16-mixed" if mixed else "32-true",
            callbacks=list(callbacks),
            accumulate_grad_batches=accumulate,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(module, loader, validation)
        except SystemExit as error:
            raise KeyboardInterrupt from error
        except RuntimeError as error:
            # Interrupted before its first batch, Lightning fails in its teardown of parts not set up yet.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            raise
    module.to("cpu")
