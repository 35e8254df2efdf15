"""Training one of anomalib's models with its own Engine, on rows in memory, without output or files."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from contracts.errors import ModelError, OutnumberedError
from contracts.rows import ImageRows
from oneclass.from_anomalib.build import BuiltModel, isolated_randomness, no_downloads
from oneclass.from_anomalib.catalogue import PREFIX
from oneclass.from_anomalib.settings import AnomalibSettings
from oneclass.patchcore.coreset import k_center_greedy

_PRELOAD_BYTES = 1 << 30

# Models that learn something in a validation pass of their own, which expects normal images.
_USES_VALIDATION = ("efficient_ad", "winclip", "anomalyvfm", "vlm_ad")

# Lightning logs under different names, depending on the package it was installed from.
_TALKATIVE = ("anomalib", "lightning", "lightning.pytorch", "lightning_fabric", "pytorch_lightning")


def train(
    built: BuiltModel,
    settings: AnomalibSettings,
    normal: ImageRows,
    prepare: Callable[[Tensor], Tensor],
    *,
    seed: int,
    device: str,
) -> None:
    """Train ``built.lightning`` in place; it ends on the CPU, in evaluation mode.

    Args:
        built: the model.
        settings: epochs and batch size.
        normal: majority rows.
        prepare: ``[B, 3, S, S]`` pixels 0…255 → the network's input, as in the exported graph.
        seed: of the order of the rows and of the model's own random numbers.
        device: ``cpu`` or ``cuda``.

    Raises:
        ModelError: training failed; the message gives anomalib's reason.
        KeyboardInterrupt: the user interrupted (Lightning would exit the process instead).
    """
    from anomalib.engine import Engine

    where = f"{PREFIX}{settings.model}"
    data = _RowsModule(normal, prepare, settings.images_per_step, seed)
    uses_validation = settings.model in _USES_VALIDATION
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            _silence(),
            no_downloads(type(built.lightning), where),
            exact_coreset(seed),
            isolated_randomness(seed),
        ):
            engine: Any = Engine(
                # Whatever the Engine writes goes with the temporary folder.
                default_root_dir=folder,
                accelerator="gpu" if device == "cuda" else "cpu",
                devices=1,
                max_epochs=settings.max_epochs,
                # Validation costs a pass per epoch, and most models learn nothing from it.
                limit_val_batches=None if uses_validation else 0,
                # No checkpoints, loggers, progress bars or summaries.
                barebones=True,
            )
            engine.fit(built.lightning, datamodule=data)
    except OutnumberedError:
        raise
    except SystemExit as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        reason = " ".join(str(error).split())[:240]
        raise ModelError(
            f"{where}: anomalib's training failed ({type(error).__name__}: {reason}). "
            "Change its arguments or leave it out of the recipe."
        ) from error
    built.lightning.to("cpu").eval().requires_grad_(False)


class _RowsModule(LightningDataModule):
    """Rows with the attributes that anomalib's models look up on their trainer's data module."""

    name = "rows"
    category = ""

    def __init__(
        self, rows: ImageRows, prepare: Callable[[Tensor], Tensor], batch_size: int, seed: int
    ) -> None:
        super().__init__()
        self.train_batch_size = self.eval_batch_size = batch_size
        self._dataset = _PreparedImages(rows, prepare)
        self._seed = seed

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in a new random order each epoch."""
        return self._loader(self._seed)

    def val_dataloader(self) -> DataLoader[Any]:
        """The same rows in their original order."""
        return self._loader(None)

    def _loader(self, seed: int | None) -> DataLoader[Any]:
        batches = _Batches(len(self._dataset), self.train_batch_size, seed)
        return DataLoader(self._dataset, batch_sampler=batches, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch


class _Batches(Sampler[list[int]]):
    """Positions in batches; a single leftover row joins the last batch, because a variance needs two."""

    def __init__(self, n_rows: int, batch_size: int, seed: int | None) -> None:
        self.n_rows, self.batch_size = n_rows, batch_size
        self.generator = None if seed is None else np.random.default_rng(seed)
        bounds = list(range(0, n_rows, batch_size))
        if len(bounds) > 1 and batch_size > 1 and n_rows - bounds[-1] == 1:
            bounds.pop()
        self.bounds = [*bounds, n_rows]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.n_rows) if self.generator is None else self.generator.permutation(self.n_rows)
        for start, stop in zip(self.bounds[:-1], self.bounds[1:], strict=True):
            yield order[start:stop].tolist()


class _PreparedImages(Dataset[Any]):
    """Whole batches as anomalib's ``ImageBatch``; pixels are kept in memory if they fit into 1 GiB."""

    def __init__(self, rows: ImageRows, prepare: Callable[[Tensor], Tensor]) -> None:
        self.rows, self.prepare = rows, prepare
        fits = 3 * len(rows) * rows.shapes.image_size**2 <= _PRELOAD_BYTES
        self._kept = rows.images(np.arange(len(rows), dtype=np.int64)) if fits else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: list[int]) -> Any:
        """DataLoader calls this once per batch."""
        from anomalib.data import ImageBatch

        chosen = np.asarray(positions, dtype=np.int64)
        pixels = self.rows.images(chosen) if self._kept is None else self._kept[chosen]
        with torch.no_grad():
            images = self.prepare(torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous())
        return ImageBatch(image=images, gt_label=torch.zeros(len(positions), dtype=torch.bool))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress logs, warnings and progress bars: stdout is for machines, and we show a bar of our own."""
    from tqdm import tqdm

    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    plain_init = tqdm.__init__
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        tqdm.__init__ = functools.partialmethod(plain_init, disable=True)
        try:
            yield
        finally:
            tqdm.__init__ = plain_init
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def exact_coreset(seed: int) -> Iterator[None]:
    """While active, our k-centre greedy selects banks in place of anomalib's.

    It is the same algorithm, on the patches themselves instead of a random projection of them. Anomalib's
    makes one pass over all patches per selected patch, and each pass frees a block of memory that glibc does
    not always reuse: 20 images of 224 px have been seen to take 18 GB.
    """
    from anomalib.models.components import KCenterGreedy

    sampler_class: Any = KCenterGreedy
    theirs = sampler_class.select_coreset_idxs

    def select(sampler: Any) -> list[int]:
        points = sampler.embedding.reshape(len(sampler.embedding), -1).float()
        chosen: list[int] = k_center_greedy(points, sampler.coreset_size, seed).tolist()
        return chosen

    sampler_class.select_coreset_idxs = select
    try:
        yield
    finally:
        sampler_class.select_coreset_idxs = theirs
