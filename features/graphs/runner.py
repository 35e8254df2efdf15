"""Running a backbone fast: on the CPU by ONNX Runtime, on a GPU by torch.

On two cores ONNX Runtime runs the default backbone several times faster than torch. The exported file runs in
ONNX Runtime, too, so features in training come from the engine that computes them later. A backbone in int8
is computed by it on the CPU even where there is a GPU: no other engine rounds as it does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from contracts.backbone_graph import POOLED
from contracts.machine import usable_cpus
from contracts.rows import FloatArray, ImageArray
from features.backbones import Backbone
from features.graphs.backbone_graph import HALVES, IMAGES, backbone_graph, from_bytes_to_halves

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


def backbone_runner(
    backbone: Backbone, folder: Path, device: str, threads: int | None = None
) -> BackboneRunner:
    """Make the fastest runner for a device.

    Args:
        backbone: loaded, on the CPU.
        folder: of this very backbone, in which its graph is kept; see :mod:`features.graphs.backbone_graph`.
        device: ``cpu`` or ``cuda``.
        threads: on the CPU; None for all that this process may use.

    Raises:
        ModelError: the backbone cannot be traced to ONNX, which the export of the ensemble needs as well.
    """
    if device == "cuda" and backbone.settings.int8_graph is None:
        return _torch_runner(backbone)
    model = from_bytes_to_halves(backbone_graph(backbone, folder))
    options = onnxruntime.SessionOptions()
    # By default ONNX Runtime counts the host's cores, not those that this process may use.
    options.intra_op_num_threads = threads or usable_cpus()
    # ONNX Runtime warns of harmless things, such as initialisers that its optimiser removes.
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(pixels: ImageArray) -> tuple[FloatArray, npt.NDArray[np.float16]]:
        pooled, patches = session.run([POOLED, HALVES], {IMAGES: pixels})
        return pooled, patches

    return run


def _torch_runner(backbone: Backbone) -> BackboneRunner:
    module = _PixelsToFeatures(backbone).to(device="cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(pixels: ImageArray) -> tuple[FloatArray, npt.NDArray[np.float16]]:
        with torch.inference_mode():
            pooled, patches = module(torch.from_numpy(pixels).to("cuda"))
        return pooled.float().cpu().numpy(), patches.cpu().numpy()

    return run
