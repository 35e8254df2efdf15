"""The last linear layer of a classifier: finding it, replacing it, and computing its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from contracts.errors import UsageError
from supervised.whole_cnn.module import TunedModule
from supervised.whole_cnn.pixels import Batch

_BATCH = 64


def last_linear(classifier: nn.Module) -> tuple[str, nn.Linear]:
    """Dotted path and layer of the linear layer that gives the logits.

    Args:
        classifier: a timm model, which names its own, or any model whose last linear layer it is.

    Raises:
        UsageError: the logits do not come from one linear layer.
    """
    linears = {path: layer for path, layer in classifier.named_modules() if isinstance(layer, nn.Linear)}
    named: Any = getattr(classifier, "get_classifier", None)
    if named is not None:
        linears = {path: layer for path, layer in linears.items() if layer is named()}
    if not linears:
        raise UsageError(
            f"backbone {type(classifier).__name__}: its logits do not come from one linear layer, which "
            "simclr, tune=linear and retrain have to replace. Choose another backbone."
        )
    # The last in the order of definition where the model names none itself.
    path = list(linears)[-1]
    return path, linears[path]


@contextmanager
def exchanged(classifier: nn.Module, replacement: nn.Module) -> Iterator[nn.Module]:
    """Within the block the classifier ends in ``replacement``; afterwards its own last layer is restored."""
    path, own = last_linear(classifier)
    parent, _, attribute = path.rpartition(".")
    setattr(classifier.get_submodule(parent), attribute, replacement)
    try:
        yield classifier
    finally:
        setattr(classifier.get_submodule(parent), attribute, own)


def frozen_features(network: TunedModule, pixels: Dataset[Batch], device: str = "cpu") -> Tensor:
    """``[N, D]`` float32 inputs of the last layer, in evaluation mode, on the CPU.

    Args:
        network: on the CPU before and after.
        pixels: N images, in the order of the result.
        device: where to compute.
    """
    n_images = len(pixels)  # type: ignore[arg-type]
    network.eval().to(device)
    parts = []
    with exchanged(network.classifier, nn.Identity()), torch.inference_mode():
        for start in range(0, n_images, _BATCH):
            positions = list(range(start, min(start + _BATCH, n_images)))
            batch: Batch = pixels.__getitems__(positions)  # type: ignore[attr-defined]
            seen = batch.pixels.to(device).float().contiguous(memory_format=torch.channels_last)
            parts.append(network.logits(seen).cpu())
    network.to("cpu")
    # Tensors made in inference mode cannot take part in a loss; a clone made outside of it can.
    return torch.cat(parts).clone()


def put_last_linear(classifier: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Replace the last layer's weights.

    Args:
        classifier: ends in a linear layer from D to K.
        weight: ``[K, D]``.
        bias: ``[K]``.
    """
    _, last = last_linear(classifier)
    with torch.no_grad():
        last.weight.copy_(weight)
        last.bias.copy_(bias)
