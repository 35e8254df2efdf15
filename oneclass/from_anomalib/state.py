"""A trained network as arrays and JSON values, and back: its state dict and its plain attributes.

Memory banks change their size in training, and some models keep a tensor or a number as a plain attribute. So
values are restored by name, not by ``load_state_dict``, into a network built from the same arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from contracts.errors import ModelError
from contracts.files import Arrays

_TENSOR_ATTRIBUTE = "attribute/"


def network_state(network: nn.Module) -> tuple[Arrays, dict[str, Any]]:
    """Arrays (state dict, tensor attributes) and plain attributes (numbers, strings, bools)."""
    arrays: Arrays = {}
    for name, value in network.state_dict().items():
        arrays[name] = _to_numpy(value)
    plain: dict[str, Any] = {}
    for path, module in network.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_") or name == "training":
                continue
            key = f"{path}.{name}" if path else name
            if isinstance(value, Tensor):
                arrays[_TENSOR_ATTRIBUTE + key] = _to_numpy(value)
            # Exact types: enums and NumPy scalars would not survive JSON unchanged.
            elif type(value) in {bool, int, float, str}:
                plain[key] = value
    return arrays, plain


def put_state(network: nn.Module, arrays: Arrays, plain: dict[str, Any], where: str) -> None:
    """Load a trained state into a freshly built network, in place.

    Raises:
        ModelError: the network has no place for an array; perhaps the version of anomalib has changed.
    """
    for name, array in arrays.items():
        tensor = torch.from_numpy(np.array(array))
        path, _, leaf = name.removeprefix(_TENSOR_ATTRIBUTE).rpartition(".")
        try:
            owner: Any = network.get_submodule(path)
        except AttributeError:
            owner = None
        if owner is not None and name.startswith(_TENSOR_ATTRIBUTE):
            setattr(owner, leaf, tensor)
        elif owner is not None and leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
        elif owner is not None and leaf in owner._buffers:
            owner._buffers[leaf] = tensor
        else:
            raise ModelError(
                f"{where}: its saved state holds {name}, which the installed anomalib's model does not have. "
                "Train it again."
            )
    for key, value in plain.items():
        path, _, leaf = key.rpartition(".")
        setattr(network.get_submodule(path), leaf, value)


def _to_numpy(value: Tensor) -> np.ndarray:
    value = value.detach().cpu()
    # NumPy has no bfloat16; float32 holds every bfloat16 exactly.
    if value.dtype == torch.bfloat16:
        value = value.float()
    return value.numpy().copy()
