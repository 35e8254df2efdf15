"""One module from uint8 images to probabilities, p_normal, decisions, member scores and maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from contracts.rows import FloatArray
from export.map_fusion import AS_IT_IS, MapsTogether, OnlyWhere, UsualValues
from export.scoring.model import MAP_PREFIX
from imagedata.decoding.shape import GREY, Fit
from imagedata.views import ViewsAtScoring


class GraphOutputs(NamedTuple):
    """Outputs of the exported file, in order; N images.

    Attributes:
        probability: ``[N]`` probability of the minority (``[N, K]`` for K > 2 classes); absent where no
            minority image was labelled.
        p_normal: ``[N]`` how often a normal image looks at least as odd, 0…1.
        p_minority: ``[N]`` how often an image of the minority looks at least as normal, 0…1; absent likewise.
        decision: ``[N]`` int64 class index, minority last.
        triage: ``[N]`` int64, position in :data:`contracts.triage.TRIAGE_NAMES`; absent likewise.
        member_scores: ``[N, M]`` float32, the stacker's inputs.
        watched_features: ``[N, k]`` float32, pooled features along a few directions, for the watch; absent
            where the file keeps none.
        anomaly_map: ``[N, h, w]`` float32, the maps of all members together; absent where no member has one.
        maps: member → ``[N, h, w]`` float32, its own map, such as distances on the patch grid.
    """

    probability: Tensor | None
    p_normal: Tensor
    p_minority: Tensor | None
    decision: Tensor
    triage: Tensor | None
    member_scores: Tensor
    watched_features: Tensor | None
    anomaly_map: Tensor | None
    maps: dict[str, Tensor]

    @property
    def present(self) -> dict[str, Tensor]:
        """Outputs by name, those that this graph has; ONNX knows no optional output."""
        fixed = {name: value for name, value in self._asdict().items() if name != "maps"}
        return {
            **{name: value for name, value in fixed.items() if value is not None},
            **{MAP_PREFIX + member: value for member, value in self.maps.items()},
        }


@dataclass(frozen=True)
class GraphMember:
    """A fitted member in the graph.

    Attributes:
        name: as in the score table.
        backbone: key of the backbone whose features it reads.
        module: ``forward(features) -> (scores [N, C], map | None)``.
        usual: values of its map on normal images, which put it on one scale with the maps of others; None
            where they are not known.
    """

    name: str
    backbone: str
    module: nn.Module
    usual: UsualValues | None = AS_IT_IS


class MeanOfMembers(nn.Module):
    """One member fitted several times, which vote: the mean of their scores, and of their maps.

    Args:
        modules: fits of the same member, as in :class:`GraphMember`; all have a map or none has.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.modules_of_repeat = nn.ModuleList(modules)

    def forward(self, features: object) -> tuple[Tensor, Tensor | None]:
        """Scores ``[N, C]`` and map ``[N, g, g]`` or None, of a backbone's features."""
        scores, maps = zip(*(module(features) for module in self.modules_of_repeat), strict=True)
        mean_map = None if maps[0] is None else torch.stack(maps).mean(dim=0)
        return torch.stack(scores).mean(dim=0), mean_map


class BothWays(nn.Module):
    """A member that is given N images and, behind them, their mirror images: the mean of what it gives.

    The twin of :mod:`features.apply`.

    Args:
        module: of the member, as in :class:`GraphMember`.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, features: object) -> tuple[Tensor, Tensor | None]:
        """Scores ``[N, C]`` and map ``[N, g, g]`` or None, of a backbone's features of 2 N images."""
        scores, maps = self.module(features)
        scores = scores.unflatten(0, (2, -1)).mean(dim=0)
        if maps is None:
            return scores, None
        # A cell of the mirror image lies where its picture lies once it is mirrored back.
        both = maps.unflatten(0, (2, -1))
        return scores, 0.5 * (both[0] + both[1].flip(2))


class WatchedFeatures(nn.Module):
    """A few directions of a backbone's pooled features, which the watch compares batches by.

    Two constants and one product of a vector with a matrix of k columns: nothing beside a backbone.

    Args:
        backbone: key of the backbone.
        mean: ``[D]`` that is taken off.
        directions: ``[D, k]``, each scaled so that training images have a standard deviation of 1 along it.
    """

    def __init__(self, backbone: str, mean: FloatArray, directions: FloatArray) -> None:
        super().__init__()
        self.backbone = backbone
        self.mean: Tensor
        self.directions: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("directions", torch.tensor(directions, dtype=torch.float32))

    def forward(self, pooled: Tensor) -> Tensor:
        """``[N, k]`` of pooled features ``[N, D]``."""
        return (pooled - self.mean) @ self.directions


class FusedGraph(nn.Module):
    """Everything between an image and its probability; each backbone runs once, whoever reads it.

    Args:
        backbones: key → backbone module, ``forward(images [N, 3, S, S] 0…255) -> BackboneFeatures``.
        members: in the order of the score columns.
        ensemble: ``forward(scores, *settings) -> (probability, p_normal, decision, p_minority, triage)``; the
            first is None without labels, and the last two may be left out. The settings are those of the
            file's inputs, see :meth:`forward`.
        image_size: working size S in pixels.
        fit: how images that are no squares become one.
        views: how each image is seen.
        watched: what the watch reads of the pooled features of one of the backbones; None for nothing.
    """

    def __init__(
        self,
        backbones: dict[str, nn.Module],
        members: Sequence[GraphMember],
        ensemble: nn.Module,
        image_size: int,
        fit: Fit = "squeeze",
        views: ViewsAtScoring = "none",
        watched: WatchedFeatures | None = None,
    ) -> None:
        super().__init__()
        self.backbone_keys = tuple(backbones)
        self.backbones = nn.ModuleList(backbones.values())
        self.sees_both_ways = views == "mirror"
        self.members = nn.ModuleList(
            BothWays(member.module) if self.sees_both_ways else member.module for member in members
        )
        self.names = tuple(member.name for member in members)
        self.backbone_of_member = tuple(self.backbone_keys.index(member.backbone) for member in members)
        self.together = MapsTogether([member.usual for member in members])
        self.ensemble = ensemble
        self.image_size, self.fit = image_size, fit
        self.shown = OnlyWhere()
        self.watched = watched

    def member_scores(self, images: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Scores ``[N, M]``, each member's map ``[N, h, w]`` or None, of uint8 images ``[N, H, W, 3]``."""
        return self.scores_of(self.features_of(images))

    def features_of(self, images: Tensor) -> list[Any]:
        """What each backbone gives of uint8 images ``[N, H, W, 3]``."""
        pixels = self.seen(images)
        return [backbone(pixels) for backbone in self.backbones]

    def seen(self, images: Tensor) -> Tensor:
        """``[N, 3, S, S]`` pixels that the backbones take, of uint8 images ``[N, H, W, 3]``.

        Where mirror images are seen as well, they follow behind: ``[2 N, 3, S, S]``.
        """
        pixels = resized(images, self.image_size, self.fit)
        return torch.cat([pixels, pixels.flip(3)]) if self.sees_both_ways else pixels

    def scores_of(self, features: Sequence[object]) -> tuple[Tensor, list[Tensor | None]]:
        """Scores ``[N, M]`` and each member's map ``[N, h, w]`` or None, of what the backbones give.

        Where mirror images are seen as well, features are those of 2 N images.
        """
        scores, maps = zip(
            *(
                module(features[backbone])
                for module, backbone in zip(self.members, self.backbone_of_member, strict=True)
            ),
            strict=True,
        )
        # The order of the columns is the order in which the stacker was fitted.
        return torch.cat(scores, dim=1), list(maps)

    def watched_of(self, features: Sequence[Any]) -> Tensor | None:
        """``[N, k]`` watched features, of what the backbones give; None where nothing is watched."""
        if self.watched is None:
            return None
        pooled = features[self.backbone_keys.index(self.watched.backbone)].pooled
        # Of the images as they came: what a mirrored camera changes would be gone from a mean of both ways.
        watched: Tensor = self.watched(pooled.unflatten(0, (2, -1))[0] if self.sees_both_ways else pooled)
        return watched

    def outputs_of(self, features: Sequence[object], settings: Sequence[Tensor]) -> GraphOutputs:
        """What the graph says, of what the backbones give; see :meth:`forward` for the settings."""
        scores, maps = self.scores_of(features)
        probability, p_normal, decision, *more = self.ensemble(scores, *settings)
        p_minority, triage = more or (None, None)
        maps = [None if each is None else self.shown(each) for each in maps]
        there = {name: each for name, each in zip(self.names, maps, strict=True) if each is not None}
        together = self.together(maps)
        watched = self.watched_of(features)
        return GraphOutputs(
            probability, p_normal, p_minority, decision, triage, scores, watched, together, there
        )

    def forward(self, images: Tensor, *settings: Tensor) -> tuple[Tensor, ...]:
        """Score images.

        Args:
            images: ``[N, H, W, 3]`` uint8 RGB.
            settings: what the ensemble takes beside scores. ``prior``: ``[]`` float32 share of the minority
                where the model works (``[K]`` for K > 2). ``threshold``: ``[]`` float32; the decision is the
                minority from this probability on (``[K]`` for K > 2; the decision is the class with the
                largest probability / threshold). ``miss_rate`` and ``false_alarms``: ``[]`` float32 error
                rates of triage. Without labels the threshold alone, on p_normal.

        Returns:
            The outputs of the file that are there, in the order of :class:`GraphOutputs`.
        """
        return tuple(self.outputs_of(self.features_of(images), settings).present.values())


class GraphBesideBackbones(nn.Module):
    """All of a fused graph but its backbones, so that these can be traced apart.

    Its inputs are those of :class:`FusedGraph` and each backbone's pooled and patch features, its outputs the
    resized images, which the backbones take, and those of :class:`FusedGraph`.

    Args:
        graph: whose modules it shares.
        features: the backbones' named tuples, ``(images, pooled, patches)``.
    """

    def __init__(self, graph: FusedGraph, features: Sequence[type]) -> None:
        super().__init__()
        # Under the same names, by which nodes and weights say where they belong.
        self.members, self.ensemble = graph.members, graph.ensemble
        self.shown, self.together = graph.shown, graph.together
        self.watched = graph.watched
        # In a tuple, or the graph would be a part of this one, and its backbones with it.
        self.graph = (graph,)
        self.features = tuple(features)

    def forward(
        self, images: Tensor, settings: Sequence[Tensor], of_backbones: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, ...]:
        """See :class:`FusedGraph`; of each backbone ``[N, D]`` pooled and ``[N, C, g, g]`` patch features."""
        (graph,) = self.graph
        pixels = graph.seen(images)
        given = [kind(pixels, *parts) for kind, parts in zip(self.features, of_backbones, strict=True)]
        return (pixels, *graph.outputs_of(given, settings).present.values())


def resized(images: Tensor, image_size: int, fit: Fit = "squeeze") -> Tensor:
    """``[N, 3, S, S]`` float32 pixels 0…255 of uint8 images ``[N, H, W, 3]``, as backbones take them.

    The twin of :func:`imagedata.decoding.shape.in_square`, with sides that may be symbols of the tracer.
    """
    pixels = images.permute(0, 3, 1, 2).float()
    # Any: symbols while it is traced.
    height, width = sides = cast("tuple[Any, Any]", pixels.shape[2:])
    if fit == "crop":
        above, left = torch.sym_max(height - width, 0), torch.sym_max(width - height, 0)
        # Negative padding cuts; slices of such lengths cannot be traced.
        cut: Any = (-(left // 2), left // 2 - left, -(above // 2), above // 2 - above)
        pixels = nn.functional.pad(pixels, cut)
    if fit == "pad":
        longer = torch.sym_max(height, width)
        inner: Any = [torch.sym_max((2 * side * image_size + longer) // (2 * longer), 1) for side in sides]
        pixels = nn.functional.interpolate(pixels, size=inner, mode="bilinear", antialias=True)
        (top, bottom), (start, end) = (
            ((image_size - side) // 2, image_size - side - (image_size - side) // 2) for side in inner
        )
        return nn.functional.pad(pixels, (start, end, top, bottom), value=float(GREY))
    # Exact where the image already has the working size; antialiased as in training where not.
    return nn.functional.interpolate(pixels, size=(image_size, image_size), mode="bilinear", antialias=True)
