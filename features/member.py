"""What most members share: a fitted torch module that scores, is saved, and goes into the exported graph.

This file imports torch only inside functions. So a member file that keeps to that too can hold its settings
model as well, and a recipe can still be checked without torch (it takes seconds to import).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np

from contracts.errors import DataError
from contracts.files import Arrays
from contracts.member import Member
from contracts.rows import FloatArray, ImageRows
from features.settings import BackboneSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from features.formula import FormulaModule
    from features.tensors import BackboneFeatures

ModuleT = TypeVar("ModuleT", bound="nn.Module")

_DEFAULT_BACKBONE = BackboneSettings()


class ModuleMember(Member, Generic[ModuleT]):
    """A member whose fitted state is one module.

    Subclasses set ``_module`` in :meth:`fit` and say in :meth:`_empty_module` how to build a module that a
    saved state fits into. Those that save more or less than the module's state dict override :meth:`state`
    and :meth:`restore`.

    Attributes:
        name: how messages name the member.

    Args:
        settings: of the member.
        backbone: whose features it reads.
    """

    name: str
    backbone: BackboneSettings

    def __init__(self, settings: Any, backbone: BackboneSettings = _DEFAULT_BACKBONE) -> None:
        super().__init__(settings, backbone)
        self._module: ModuleT | None = None

    @abstractmethod
    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> ModuleT:
        """A module of the shapes of a saved state; its numbers are overwritten.

        Args:
            arrays: as :meth:`state` returned them.
            meta: likewise.
        """

    def score(self, rows: ImageRows) -> FloatArray:
        """``[N, C]`` float32 scores, by the same module that is exported."""
        from features.apply import score_with_module

        return score_with_module(self.to_module(), rows, self.needs)

    def to_module(self) -> ModuleT:
        """The fitted module.

        Raises:
            DataError: the member is not fitted yet.
        """
        if self._module is None:
            raise DataError(f"{self.name}: not fitted yet.")
        return self._module

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """The module's state dict as arrays."""
        state = self.to_module().state_dict()
        return {name: value.detach().cpu().numpy() for name, value in state.items()}, {}

    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:
        """Load a saved state."""
        import torch

        module = self._empty_module(arrays, meta)
        # Copied: torch warns of read-only arrays, and a loaded module must not change the caller's.
        module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        self._module = module.eval()
        return self


class FormulaMember(ModuleMember["FormulaModule"]):
    """A member that is a formula of the features and a few fitted arrays: the shortest way to a new member.

    Subclasses pass the arrays to :meth:`_remember` at the end of :meth:`fit`, and compute scores from them in
    :meth:`formula`. Saving, restoring, scoring and export follow from that.
    """

    @abstractmethod
    def formula(
        self, features: BackboneFeatures, fitted: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Scores ``[N, C]`` and a map ``[N, g, g]`` or None.

        It is traced into the exported graph: only tensor operations, no loop over images.

        Args:
            features: of N images.
            fitted: the arrays of :meth:`_remember` as tensors, by name.
        """

    def _remember(self, **arrays: np.ndarray) -> None:
        """Make the fitted module of these arrays."""
        from features.formula import FormulaModule

        self._module = FormulaModule(self.formula, arrays).eval()

    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> FormulaModule:  # noqa: ARG002
        from features.formula import FormulaModule

        return FormulaModule(self.formula, arrays)
