"""A backbone: one frozen pass over an image computes the pooled and patch features of every member."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from contracts.errors import UsageError
from contracts.files import digest_of
from contracts.rows import FeatureShapes
from features.settings import BackboneSettings
from features.tensors import BackboneFeatures, averaged, cut, laid_together
from features.weights import TORCHVISION_PREFIX, build_network, normalisation, state_sha256


class Backbone(nn.Module):
    """Frozen network with its normalisation and the reductions that members need.

    Attributes:
        settings: as given.
        shapes: sizes of the outputs.
        weights_digest: digest of all parameters and buffers; part of the cache key.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        self.settings = settings
        network = build_network(settings.name, settings.weights_source)
        _resize_input(network, settings)
        mean, std = normalisation(network)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255.0)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255.0)
        self.layers: Any = (
            _TorchvisionLayers(network, settings)
            if settings.name.startswith(TORCHVISION_PREFIX)
            else _TimmLayers(network, settings)
        )
        self.eval().requires_grad_(False)
        self.weights_digest = state_sha256(self)[:16]
        with torch.inference_mode():
            sample = self.forward(torch.zeros(1, 3, settings.working_size, settings.working_size))
        self.shapes = FeatureShapes(
            image_size=settings.working_size,
            pooled_dim=sample.pooled.shape[1],
            patch_channels=sample.patches.shape[1],
            patch_grid=sample.patches.shape[2],
        )

    @property
    def cache_key(self) -> str:
        """Digest of everything that decides the features of an image at the working size."""
        return digest_of([self.settings.identity(), self.weights_digest])

    def forward(self, images: Tensor) -> BackboneFeatures:
        """Compute features.

        Args:
            images: ``[N, 3, S, S]`` float32 RGB, 0…255, at the working size.
        """
        tiles = self.settings.tiles
        of_tiles, final_of_tiles = self.layers((cut(images, tiles) - self.mean) / self.std)
        # Before anything is pooled, so that neighbourhoods reach across the borders of tiles.
        layers = {key: laid_together(layer, tiles) for key, layer in of_tiles.items()}
        final = averaged(final_of_tiles, tiles)
        pooled = [layers[each].mean(dim=(2, 3)) for each in self.layers.pooled]
        return BackboneFeatures(
            images=images,
            pooled=torch.cat([*pooled, final], dim=1),
            patches=self._patches([layers[each] for each in self.layers.patches]),
        )

    def _patches(self, layers: list[Tensor]) -> Tensor:
        """Layers on one grid, rounded to half precision.

        The rounding is part of the graph as well as of training. So the cache needs half the bytes, and every
        member still sees the same numbers everywhere.
        """
        return self.on_one_grid(layers).half().float()

    def on_one_grid(self, layers: list[Tensor]) -> Tensor:
        """Neighbourhood pooling and resampling to one grid, as in PatchCore and anomalib; not rounded.

        A transformer's tokens have seen the whole image already and are taken as they are, as in AnomalyDINO
        (Damm et al. 2025) and SubspaceAD (CVPR 2026).
        """
        sides = [layer.shape[-1] for layer in layers]
        grid = min(sides) if self.settings.patch_grid == "coarsest" else max(sides)
        on_grid = []
        for layer in layers:
            pooled = layer
            if not self.layers.has_tokens:
                pooled = nn.functional.avg_pool2d(layer, kernel_size=3, stride=1, padding=1)
            if layer.shape[-1] > grid:
                pooled = nn.functional.adaptive_avg_pool2d(pooled, grid)
            elif layer.shape[-1] < grid:
                pooled = nn.functional.interpolate(pooled, size=(grid, grid), mode="bilinear")
            on_grid.append(pooled)
        return torch.cat(on_grid, dim=1)


class NoBackbone(nn.Module):
    """Takes the place of a backbone in a graph whose members read only pixels."""

    def forward(self, images: Tensor) -> BackboneFeatures:
        """The images ``[N, 3, S, S]`` unchanged; pooled and patch features are one zero per image."""
        # Computed from the images, so that the batch size stays free when this is traced.
        nothing = images[:, 0, 0, 0] * 0.0
        return BackboneFeatures(images, nothing[:, None], nothing[:, None, None, None])


class _TimmLayers(nn.Module):
    """Feature maps and pre-logits of a timm model; layers are told by stride, or by number.

    Attributes:
        patches: layers that patch features are made of, by what :meth:`forward` calls them.
        pooled: likewise those that enter the pooled features.
        has_tokens: whether the maps are a transformer's tokens, normalised as its last ones are.
    """

    def __init__(self, network: Any, settings: BackboneSettings) -> None:
        super().__init__()
        self.network = network
        if not hasattr(network, "forward_intermediates"):
            raise UsageError(
                f"backbone '{settings.name}': timm offers no intermediate feature maps for it. "
                "Choose another, such as resnet18 or tf_efficientnet_lite0."
            )
        size = settings.image_size
        network.eval()
        with torch.inference_mode():
            _, maps = self.network.forward_intermediates(torch.zeros(1, 3, size, size))
        # If several layers share a stride, the last one is used.
        index_of_stride = {_stride(size, layer.shape[-1]): index for index, layer in enumerate(maps)}
        has_one_stride = len(maps) > 1 and len(index_of_stride) == 1
        has_blocks = settings.patch_blocks is not None or settings.pooled_blocks is not None
        # Strides that are stated choose layers even where all have the same.
        by_number = has_blocks or (has_one_stride and not settings.states_strides)
        self.has_tokens = by_number and has_one_stride
        if by_number:
            self.patches = _numbers(settings, "patch", len(maps), has_one_stride)
            self.pooled = _numbers(settings, "pooled", len(maps), has_one_stride)
            self.keys = tuple(sorted({*self.patches, *self.pooled}))
            self.indices = list(self.keys)
        else:
            self.patches, self.pooled = settings.patch_strides, settings.pooled_strides
            wanted = _wanted_strides(settings, list(index_of_stride))
            self.keys = tuple(sorted(wanted, key=lambda stride: index_of_stride[stride]))
            self.indices = [index_of_stride[stride] for stride in self.keys]

    def forward(self, normalised: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """Maps by stride or number, and pre-logits."""
        # Tokens of middle blocks are normalised as the last ones are, which some networks (DINOv2) need:
        # a few channels would outweigh all others.
        norm = {"norm": True} if self.has_tokens else {}
        final, maps = self.network.forward_intermediates(normalised, indices=self.indices, **norm)
        return dict(zip(self.keys, maps, strict=True)), self.network.forward_head(final, pre_logits=True)


def _numbers(settings: BackboneSettings, what: str, n_layers: int, are_alike: bool) -> tuple[int, ...]:
    """Layers by number, 0 or more, in the order in which they are chosen.

    Raises:
        UsageError: there is no such layer, or none is chosen where the layers are not alike.
    """
    chosen: tuple[int, ...] | None = getattr(settings, f"{what}_blocks")
    if chosen is None and not are_alike:
        raise UsageError(
            f"backbone '{settings.name}': patch_blocks and pooled_blocks go together. "
            f"Give -o backbone.{what}_blocks=[...] as well; it has layers 0 to {n_layers - 1}."
        )
    if chosen is None:
        # The middle of a network whose layers are all alike: of twelve blocks the sixth and the ninth.
        return tuple(dict.fromkeys((max(0, n_layers // 2 - 1), max(0, 3 * n_layers // 4 - 1))))
    missing = [number for number in chosen if not -n_layers <= number < n_layers]
    if missing:
        raise UsageError(
            f"backbone '{settings.name}': {what}_blocks has {', '.join(map(str, missing))}, but it has "
            f"{n_layers} layers, 0 to {n_layers - 1} (or -{n_layers} to -1). "
            f"Choose with -o backbone.{what}_blocks=[...]."
        )
    return tuple(dict.fromkeys(number % n_layers for number in chosen))


class _TorchvisionLayers(nn.Module):
    """Feature maps by stride of a torchvision model; its deepest map, averaged, serves as pre-logits."""

    has_tokens = False

    def __init__(self, network: nn.Module, settings: BackboneSettings) -> None:
        super().__init__()
        if settings.patch_blocks is not None or settings.pooled_blocks is not None:
            raise UsageError(
                f"backbone '{settings.name}': layers of torchvision's models are chosen by stride. Use "
                "patch_strides and pooled_strides in place of blocks."
            )
        self.patches, self.pooled = settings.patch_strides, settings.pooled_strides
        from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

        _, nodes = get_graph_node_names(network)
        size = settings.image_size
        probe = create_feature_extractor(network, return_nodes={n: n for n in nodes if n != "x"}).eval()
        with torch.inference_mode():
            outputs = probe(torch.zeros(1, 3, size, size))
        node_of_stride: dict[int, str] = {}
        for node, value in outputs.items():
            if isinstance(value, Tensor) and value.ndim == 4 and 1 < value.shape[-1] < size:
                node_of_stride[_stride(size, value.shape[-1])] = node
        wanted = _wanted_strides(settings, list(node_of_stride))
        self.deepest = max(node_of_stride)
        chosen = {node_of_stride[stride]: str(stride) for stride in {*wanted, self.deepest}}
        self.extractor: Any = create_feature_extractor(network, return_nodes=chosen)

    def forward(self, normalised: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        by_stride = {int(stride): layer for stride, layer in self.extractor(normalised).items()}
        return by_stride, by_stride[self.deepest].mean(dim=(2, 3))


def size_step(settings: BackboneSettings) -> int:
    """Pixels that ``image_size`` must be a multiple of: the side of a transformer's patches, or else 1.

    Args:
        settings: name the network; its weights are not loaded.

    Raises:
        UsageError: there is no such network.
    """
    return _patch_side(build_network(settings.name, "random")) or 1


def _patch_side(network: Any) -> int | None:
    """Side in pixels of the patches of a network whose weights belong to a grid of them; None of others."""
    embedding = getattr(network, "patch_embed", None)
    if getattr(embedding, "img_size", None) is None or not hasattr(network, "set_input_size"):
        return None
    return int(max(embedding.patch_size))  # type: ignore[union-attr]


def _resize_input(network: Any, settings: BackboneSettings) -> None:
    """Let a network whose weights belong to a grid of patches take images of the working size.

    Raises:
        UsageError: the working size is no multiple of its patches.
    """
    patch = _patch_side(network)
    size = settings.image_size
    if patch is None or tuple(network.patch_embed.img_size) == (size, size):
        return
    if size % patch:
        lower = size // patch * patch
        raise UsageError(
            f"backbone '{settings.name}': image_size {size} is no multiple of its patches of {patch} px. Use "
            f"-o backbone.image_size={lower or patch} or {lower + patch}."
        )
    # Position embeddings are resampled to the new grid.
    network.set_input_size(img_size=(size, size))


def _stride(size: int, side: int) -> int:
    """Pixels per cell of a layer with ``side`` cells across an image of ``size`` pixels.

    Convolutions of stride 2 round up, so at 300 pixels the layers of stride 8 and 16 are 38 and 19 cells
    wide. Layers that match no power of two, such as patches of 14 pixels, divide the image evenly.
    """
    for power in (1 << exponent for exponent in range(size.bit_length())):
        if math.ceil(size / power) == side:
            return power
    return size // side


def _wanted_strides(settings: BackboneSettings, available: list[int]) -> set[int]:
    wanted = {*settings.patch_strides, *settings.pooled_strides}
    missing = sorted(wanted - set(available))
    if missing:
        raise UsageError(
            f"backbone '{settings.name}' at {settings.image_size} px: no layer of stride "
            f"{', '.join(map(str, missing))}; it has {', '.join(map(str, sorted(available)))}. "
            "Choose with -o backbone.patch_strides=[...] and -o backbone.pooled_strides=[...]."
        )
    return wanted
