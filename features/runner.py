"""Running a trunk fast: on the CPU by ONNX Runtime, on a GPU by torch.

On two cores ONNX Runtime runs the default trunk several times as fast as torch does, and the exported
file will run in ONNX Runtime too, so features are computed by the engine that will compute them later.
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
from features.trunks import Trunk

OPSET = 18
_ERRORS_ONLY = 3

TrunkRunner = Callable[[ImageArray], tuple[FloatArray, npt.NDArray[np.float16]]]
"""``[B, S, S, 3]`` uint8 → pooled ``[B, D]`` float32 and patches ``[B, C, g, g]`` half precision."""


class _PixelsToFeatures(nn.Module):
    """The trunk from uint8 pixels, giving what the store keeps."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
        features = self.trunk(pixels)
        return features.pooled, features.patches.half()


def trunk_runner(trunk: Trunk, onnx_path: Path, device: str) -> TrunkRunner:
    """Make the fastest runner for a device.

    Args:
        trunk: loaded, on the CPU.
        onnx_path: where the trunk's own ONNX file is kept; made on first use.
        device: ``cpu`` or ``cuda``.

    Raises:
        ModelError: the trunk cannot be traced to ONNX, which exporting the ensemble would need as well.
    """
    if device == "cuda":
        return _torch_runner(trunk)
    if not onnx_path.exists():
        _write_trunk(trunk, onnx_path)
    options = onnxruntime.SessionOptions()
    # ONNX Runtime reads the host's cores, not what this process may use.
    options.intra_op_num_threads = usable_cpus()
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(onnx_path, options, providers=["CPUExecutionProvider"])

    def run(pixels: ImageArray) -> tuple[FloatArray, npt.NDArray[np.float16]]:
        pooled, patches = session.run(None, {"images": pixels})
        return pooled, patches

    return run


def _torch_runner(trunk: Trunk) -> TrunkRunner:
    module = _PixelsToFeatures(trunk).to(device="cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(pixels: ImageArray) -> tuple[FloatArray, npt.NDArray[np.float16]]:
        with torch.inference_mode():
            pooled, patches = module(torch.from_numpy(pixels).to("cuda"))
        return pooled.float().cpu().numpy(), patches.cpu().numpy()

    return run


def _write_trunk(trunk: Trunk, path: Path) -> None:
    size = trunk.settings.image_size
    sample = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                _PixelsToFeatures(trunk).eval(),
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
            f"trunk '{trunk.settings.name}': it cannot be traced to ONNX ({type(error).__name__}: {reason}), "
            "so no ensemble with it could be exported. Choose another trunk, such as resnet18."
        ) from error
    if program is None:
        raise ModelError(f"trunk '{trunk.settings.name}': the ONNX exporter gave no program.")
    with atomic_writer(path) as handle:
        handle.write(program.model_proto.SerializeToString())
