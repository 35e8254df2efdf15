"""The maps of several members as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

UsualValues = tuple[float, float]
"""Two values of a member's map on normal images that the member had not seen: the one that half of their
patches stay below, and the one that 99.5 % of them do."""

AS_IT_IS: UsualValues = (0.0, 1.0)
"""Leaves a map in its own unit."""


class MapsTogether(nn.Module):
    """Mean of the maps of several members, each on a scale that all share.

    Maps have units of their own: distances, residuals, logits. Here each is 0 for a typical patch of a normal
    image, and 1 for one that one in 200 lies above; the mean then has no other unit. A linear scale, because
    one that counts how rare a value is has an end: of two values that no normal patch reached it cannot say
    which is the more anomalous.

    Args:
        usual: of each member; None for members that have no map, or whose usual values are not known, so that
            their map stays out.
    """

    def __init__(self, usual: Sequence[UsualValues | None]) -> None:
        super().__init__()
        self.usual = tuple(usual)

    def forward(self, maps: Sequence[Tensor | None]) -> Tensor | None:
        """``[N, h, w]`` from the maps ``[N, g, g]`` of all members, on the finest of their grids.

        None where no member has a map.
        """
        there = [
            (each - usual[0]) * (1.0 / (usual[1] - usual[0]))
            for each, usual in zip(maps, self.usual, strict=True)
            if each is not None and usual is not None
        ]
        if not there:
            return None
        size = max(each.shape[1] for each in there), max(each.shape[2] for each in there)
        return torch.stack([_stretched(each, size) for each in there]).mean(dim=0)


def _stretched(score_map: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(score_map.shape[1:]) == size:
        return score_map
    return nn.functional.interpolate(score_map[:, None], size=size, mode="bilinear")[:, 0]


class OnlyWhere(nn.Module):
    """Leaves maps outside of a region empty, where there is one.

    Outside they are as low as their lowest place within: not zero, which of a logit would be much.
    """

    def show(self, seen: Tensor) -> None:
        """Show maps of the size of ``seen`` ``[g, g]`` only where it is True; each size is told by itself."""
        self.register_buffer(f"seen_{seen.shape[-1]}", seen)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps ``[N, g, g]`` of the same size."""
        seen: Tensor | None = getattr(self, f"seen_{maps.shape[-1]}", None)
        if seen is None:
            return maps
        lowest = maps.masked_fill(~seen, torch.inf).amin(dim=(1, 2), keepdim=True)
        return torch.where(seen, maps, lowest)
