"""anomalib's PatchCore on the same backbone and the same files, as its own users run it."""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from contracts.errors import UsageError
from imagedata.decoding.decode import DecodeSettings, decode_file
from workflow.settings.config import RunConfig

ENGINE_PREDICT = "anomalib Engine.predict"
_STRIDES = (8, 16)
_PREDICTED_IMAGES = 32
_EXPORT_BATCH = 2
"""Batch that anomalib's exported PatchCore is fixed at, whatever it was exported with."""

_FITTED_IMAGES = 20
"""anomalib keeps a tenth of all patches by default. All patches of 20 images make the bank that 200 normal
images would be reduced to, without the hours that its selection takes."""


def anomalib_cases(
    config: RunConfig, jpegs: list[Path], folder: Path, threads: int
) -> dict[str, Callable[[], float]]:
    """Fit anomalib's PatchCore on a few of the files and return how fast it predicts.

    Args:
        config: names the backbone and the working size.
        jpegs: the files that are scored; the first are the "normal" ones, as speed asks for no truth.
        folder: for its files.
        threads: of torch and ONNX Runtime.

    Returns:
        Name → images per second: ``Engine.predict`` with its defaults, and its exported ONNX file.

    Raises:
        UsageError: the backbone is none of timm's.
    """
    backbone = config.recipe.backbone
    if ":" in backbone.name or backbone.name.startswith("small_cnn"):
        raise UsageError(f"anomalib has no backbone {backbone.name}. Leave --anomalib out.")
    with _quiet():
        import torch
        from anomalib.data import Folder
        from anomalib.deploy import ExportType
        from anomalib.engine import Engine
        from anomalib.models import Patchcore

        torch.set_num_threads(threads)
        model = Patchcore(
            backbone=backbone.name,
            layers=_layers(backbone.name),
            pre_trained=False,
            pre_processor=Patchcore.configure_pre_processor(
                image_size=(backbone.image_size, backbone.image_size)
            ),
        )
        network: Any = model.model
        network.subsample_embedding = partial(_keep_whole, network)
        normal, scored = folder / "normal", folder / "scored"
        for target, files in ((normal, jpegs[:_FITTED_IMAGES]), (scored, jpegs[:_PREDICTED_IMAGES])):
            target.mkdir(parents=True)
            for file in files:
                (target / file.name).write_bytes(file.read_bytes())
        engine = Engine(
            default_root_dir=folder / "results", accelerator="cpu", devices=1, logger=False, max_epochs=1
        )
        normal_images = Folder(
            "bench", normal_dir=normal, train_batch_size=8, eval_batch_size=8, num_workers=0
        )
        engine.fit(model, datamodule=normal_images)
        exported = engine.export(model, ExportType.ONNX, export_root=folder / "exported")

    def predict() -> float:
        with _quiet():
            started = time.perf_counter()
            engine.predict(model, data_path=scored, return_predictions=True)
            return len(list(scored.iterdir())) / (time.perf_counter() - started)

    return {
        ENGINE_PREDICT: predict,
        "anomalib's ONNX file, ONNX Runtime": _onnx_case(Path(str(exported)), config.decode, jpegs, threads),
    }


def _keep_whole(network: Any, ratio: float) -> None:  # noqa: ARG001
    """What anomalib's selection ends with, were the bank all that it may choose from."""
    import torch

    network.memory_bank = torch.vstack(network.embedding_store).detach()
    network.embedding_store.clear()


def _layers(name: str) -> list[str]:
    """The modules whose maps are 1/8 and 1/16 of the image, which ours are, too."""
    import timm

    info: Any = timm.create_model(name, features_only=True, pretrained=False).feature_info
    by_stride = dict(zip(info.reduction(), info.module_name(), strict=True))
    return [by_stride[stride] for stride in _STRIDES]


def _onnx_case(path: Path, settings: DecodeSettings, jpegs: list[Path], threads: int) -> Callable[[], float]:
    """Its file takes 0…1 floats, channels first, at its own size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()

    def run() -> float:
        started = time.perf_counter()
        for start in range(0, _PREDICTED_IMAGES, _EXPORT_BATCH):
            files = jpegs[start : start + _EXPORT_BATCH]
            pixels = np.stack([decode_file(file, settings).pixels for file in files])
            session.run(
                None, {given.name: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) / np.float32(255)}
            )
        return _PREDICTED_IMAGES / (time.perf_counter() - started)

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Without anomalib's and Lightning's progress, which would go to our standard output."""
    levels = {name: logging.getLogger(name).level for name in ("anomalib", "lightning.pytorch")}
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
