"""A formula with its fitted arrays as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from contracts.files import Arrays
from features.tensors import BackboneFeatures

Formula = Callable[[BackboneFeatures, Mapping[str, Tensor]], tuple[Tensor, Tensor | None]]
"""Features of N images and fitted tensors by name → scores ``[N, C]`` and a map ``[N, g, g]`` or None."""


class FormulaModule(nn.Module):
    """``formula(features, buffers)``; the buffers are what is saved.

    Args:
        formula: see :meth:`features.member.FormulaMember.formula`.
        arrays: fitted arrays by name; float64 becomes float32, as the exported graph computes in float32.
    """

    def __init__(self, formula: Formula, arrays: Arrays) -> None:
        super().__init__()
        self.formula = formula
        for name, array in arrays.items():
            single = array.astype(np.float32) if array.dtype == np.float64 else np.array(array)
            self.register_buffer(name, torch.from_numpy(single))

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, Tensor | None]:
        """Return scores and map."""
        return self.formula(features, dict(self.named_buffers()))
