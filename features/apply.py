"""Running a member's module over rows, batch by batch; and over rows as they are seen at scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from contracts.member import Member, MemberInput
from contracts.rows import FeatureShapes, FloatArray, ImageRows, MirrorableRows
from features.tensors import BackboneFeatures
from imagedata.views import ViewsAtScoring

_BATCH = 64
# What images of the usual sizes stay below: 28 x 28 cells, and 448 x 448 pixels.
_BATCH_CELLS = _BATCH * 28**2
_BATCH_PIXELS = _BATCH * 448**2

MapsOf = Callable[[ImageRows], FloatArray | None]
"""Rows → ``[N, g, g]`` maps, or None where there are none."""


def batch_size_for(shapes: FeatureShapes, needs: frozenset[MemberInput]) -> int:
    """Images that a member is given at once: 64, or fewer where each is large, so that memory is bounded.

    Args:
        shapes: of the features.
        needs: the member's inputs.
    """
    limits = [_BATCH]
    if "patches" in needs and shapes.patch_grid > 0:
        limits.append(_BATCH_CELLS // shapes.patch_grid**2)
    if "images" in needs:
        limits.append(_BATCH_PIXELS // shapes.image_size**2)
    return max(1, min(limits))


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
    size = batch_size_for(rows.shapes, needs)
    patches = rows.patches(size) if "patches" in needs else None
    for start in range(0, len(rows), size):
        stop = min(start + size, len(rows))
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


def scores_as_seen(member: Member, rows: ImageRows, views: ViewsAtScoring) -> FloatArray:
    """``[N, C]`` float32 scores of a fitted member, with ``mirror`` the mean over image and mirror image.

    :class:`export.graph.BothWays` is the twin of this in the exported graph.

    Args:
        member: fitted.
        rows: N rows, as they are.
        views: how each is seen.
    """
    scores = member.score(rows)
    return scores if views == "none" else _mean(scores, member.score(_mirrored(rows)))


def maps_as_seen(
    member: Member, rows: ImageRows, views: ViewsAtScoring, maps_of: MapsOf | None = None
) -> FloatArray | None:
    """``[N, g, g]`` float32 maps, with ``mirror`` the mean of both, the mirror image's mirrored back.

    Args:
        member: fitted.
        rows: N rows, at least one, as they are.
        views: how each is seen.
        maps_of: how rows are mapped; None for the member's module.

    Returns:
        None where the member has no map.
    """

    def of_module(given: ImageRows) -> FloatArray | None:
        return maps_with_module(member.to_module(), given, member.needs)

    map_rows = maps_of or of_module
    maps = map_rows(rows)
    if maps is None or views == "none":
        return maps
    mirrored = map_rows(_mirrored(rows))
    assert mirrored is not None  # the images have one
    return _mean(maps, mirrored[:, :, ::-1])


def _mean(one: FloatArray, other: FloatArray) -> FloatArray:
    return np.asarray(np.float32(0.5) * (one + other), dtype=np.float32)


def _mirrored(rows: ImageRows) -> ImageRows:
    if not isinstance(rows, MirrorableRows):
        raise TypeError(f"{type(rows).__name__}: these rows cannot be seen as their mirror images.")
    return rows.mirrored()
