"""Which members keep a graph from being exported: each of them traced and run alone.

The members of most kinds are written to be traced. Models that come from elsewhere may branch on values,
loop over images, or be fixed at the batch size that they were traced with; a graph that holds such a one
fails as a whole, and its error does not say where.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from contracts.errors import ModelError
from contracts.machine import usable_cpus
from contracts.rows import FloatArray, ImageArray
from export.graph import FusedGraph, GraphMember
from export.onnx_file import write_onnx

BATCHES = (1, 3)
"""Batch sizes that a member must be able to run at; neither is the one that it is traced with."""

_TOLERANCE = 1e-3
_LOG_FATAL_ONLY = 4


class _ScoresAlone(nn.Module):
    """Stands where the ensemble would, for a graph whose scores alone matter."""

    def forward(self, scores: Tensor, threshold: Tensor) -> tuple[None, Tensor, Tensor]:
        p_normal = scores[:, 0] + threshold
        return None, p_normal, (p_normal > threshold).long()


def reasons_not_to_export(
    backbones: Mapping[str, nn.Module], members: list[GraphMember], image_size: int
) -> dict[str, str]:
    """Member → why it has no form in ONNX that takes any number of images; members that have are absent.

    Args:
        backbones: key → backbone module.
        members: to be tried, one by one.
        image_size: working size in pixels.
    """
    reasons = {}
    for member in members:
        reason = reason_not_to_export(backbones[member.backbone], member, image_size)
        if reason:
            reasons[member.name] = reason
    return reasons


def graph_of_member(backbone: nn.Module, member: GraphMember, image_size: int) -> FusedGraph:
    """A graph of one member, from uint8 images to its scores; its p_normal and decision mean nothing."""
    return FusedGraph({member.backbone: backbone}, [member], _ScoresAlone(), image_size).eval()


def reason_not_to_export(backbone: nn.Module, member: GraphMember, image_size: int) -> str:
    """Why a member cannot be exported; empty where it can.

    It is written alone, run at other batch sizes than it was traced with, and compared with its module.

    Args:
        backbone: that the member reads.
        member: fitted.
        image_size: working size in pixels.
    """
    graph = graph_of_member(backbone, member, image_size)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (max(BATCHES), image_size, image_size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "member.onnx"
        try:
            write_onnx(path, graph, None, np.asarray(0.0), {})
        except ModelError as error:
            return str(error).removeprefix("export, ")
        except Exception as error:  # the module itself may fail at a batch that it was not made for
            return f"running it: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        for batch in BATCHES:
            try:
                scores = _run(path, pixels[:batch])
            except Exception as error:
                return f"fixed at the batch size of its tracing: {' '.join(str(error).split())[:200]}"
            with torch.inference_mode():
                expected = graph.member_scores(torch.from_numpy(pixels[:batch]))[0].numpy()
            if len(scores) != batch:
                return f"it gives {len(scores)} scores for {batch} images"
            # Relative to the largest score; members have no common unit.
            worst = np.abs(scores - expected).max() / max(1e-12, np.abs(expected).max())
            # Written so that NaN fails.
            if not worst <= _TOLERANCE:
                return f"its scores differ by {worst:.1e} of their size at batch {batch}"
    return ""


def _run(path: Path, pixels: ImageArray) -> FloatArray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_FATAL_ONLY
    options.intra_op_num_threads = usable_cpus()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    scores: FloatArray = session.run(["member_scores"], {"images": pixels})[0]
    return scores
