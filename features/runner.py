"""Running a backbone fast: on the CPU by ONNX Runtime, on a GPU by torch.

On two cores ONNX Runtime runs the default backbone several times faster than torch. The exported file runs in
ONNX Runtime, too, so features in training come from the engine that computes them later.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from contracts.errors import ModelError
from contracts.files import atomic_writer
from contracts.machine import usable_cpus
from contracts.rows import FloatArray, ImageArray
from features.backbones import Backbone

OPSET = 18
_ERRORS_ONLY = 3

BackboneRunner = Callable[[ImageArray], tuple[FloatArray, npt.NDArray[np.float16]]]
"""``[B, S, S, 3]`` uint8 → pooled ``[B, D]`` float32 and patches ``[B, C, g, g]`` half precision."""


class _PixelsToFeatures(nn.Module):
    """The backbone from uint8 pixels to the features that the store keeps."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
        features = self.backbone(pixels)
        return features.pooled, features.patches.half()


def backbone_runner(backbone: Backbone, onnx_path: Path, device: str) -> BackboneRunner:
    """Make the fastest runner for a device.

    Args:
        backbone: loaded, on the CPU.
        onnx_path: of the backbone's own ONNX file, which is made on first use.
        device: ``cpu`` or ``cuda``.

    Raises:
        ModelError: the backbone cannot be traced to ONNX, which the export of the ensemble needs as well.
    """
    if device == "cuda":
        return _torch_runner(backbone)
    if not onnx_path.exists():
        _write_backbone(backbone, onnx_path)
    options = onnxruntime.SessionOptions()
    # By default ONNX Runtime counts the host's cores, not those that this process may use.
    options.intra_op_num_threads = usable_cpus()
    # ONNX Runtime warns of harmless things, such as initialisers that its optimiser removes.
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(onnx_path, options, providers=["CPUExecutionProvider"])

    def run(pixels: ImageArray) -> tuple[FloatArray, npt.NDArray[np.float16]]:
        pooled, patches = session.run(None, {"images": pixels})
        return pooled, patches

    return run


def _torch_runner(backbone: Backbone) -> BackboneRunner:
    module = _PixelsToFeatures(backbone).to(device="cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(pixels: ImageArray) -> tuple[FloatArray, npt.NDArray[np.float16]]:
        with torch.inference_mode():
            pooled, patches = module(torch.from_numpy(pixels).to("cuda"))
        return pooled.float().cpu().numpy(), patches.cpu().numpy()

    return run


def _write_backbone(backbone: Backbone, path: Path) -> None:
    size = backbone.settings.image_size
    # Two images: torch.export takes a size of 1 for a constant.
    sample = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                _PixelsToFeatures(backbone).eval(),
                (sample,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["pooled", "patches"],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"backbone '{backbone.settings.name}': it cannot be traced to ONNX ({type(error).__name__}: "
            f"{reason}), so no ensemble with it could be exported. Choose another, such as resnet18."
        ) from error
    if program is None:
        raise ModelError(f"backbone '{backbone.settings.name}': the ONNX exporter gave no program.")
    with atomic_writer(path) as handle:
        handle.write(program.model_proto.SerializeToString())
