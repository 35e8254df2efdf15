"""Running a member's module over rows, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from contracts.member import MemberInput
from contracts.rows import FloatArray, ImageRows
from features.tensors import BackboneFeatures

_BATCH = 64


def feature_batches(
    rows: ImageRows, needs: frozenset[MemberInput], device: str
) -> Iterator[BackboneFeatures]:
    """Yield the features of the rows in batches; inputs that are not needed are empty tensors.

    Args:
        rows: N rows.
        needs: which inputs to read.
        device: of the tensors.
    """
    pooled = rows.pooled() if "pooled" in needs else None
    patches = rows.patches(_BATCH) if "patches" in needs else None
    for start in range(0, len(rows), _BATCH):
        stop = min(start + _BATCH, len(rows))
        images = torch.empty(0)
        if "images" in needs:
            # Pixels and patch features are read batch by batch; only pooled features are small enough to be
            # read at once.
            pixels = rows.images(np.arange(start, stop))
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous()
        yield BackboneFeatures(
            images=images.to(device),
            pooled=(torch.empty(0) if pooled is None else torch.from_numpy(pooled[start:stop])).to(device),
            patches=(torch.empty(0) if patches is None else torch.from_numpy(next(patches))).to(device),
        )


def score_with_module(
    module: nn.Module, rows: ImageRows, needs: frozenset[MemberInput], device: str = "cpu"
) -> FloatArray:
    """Return ``[N, C]`` float32 scores of a member's module, by the code that is exported.

    Args:
        module: as returned by :meth:`contracts.member.Member.to_module`.
        rows: N rows.
        needs: the member's inputs.
        device: where to run.
    """
    module = module.eval().to(device)
    scores: list[Tensor] = []
    with torch.inference_mode():
        for features in feature_batches(rows, needs, device):
            scores.append(module(features)[0].float().cpu())
    return torch.cat(scores).numpy()


def maps_with_module(
    module: nn.Module, rows: ImageRows, needs: frozenset[MemberInput], device: str = "cpu"
) -> FloatArray | None:
    """Return ``[N, g, g]`` float32 maps of a member's module, or None where it has none.

    Args:
        module: as returned by :meth:`contracts.member.Member.to_module`.
        rows: N rows, at least one.
        needs: the member's inputs.
        device: where to run.
    """
    module = module.eval().to(device)
    maps: list[Tensor] = []
    with torch.inference_mode():
        for features in feature_batches(rows, needs, device):
            found = module(features)[1]
            if found is None:
                return None
            maps.append(found.float().cpu())
    return torch.cat(maps).numpy()
