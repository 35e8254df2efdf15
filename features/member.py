"""What most members share: a fitted torch module that scores, is saved, and goes into the exported graph.

One-class and semi-supervised members give their scores on a scale that all fits share: see
:meth:`ModuleMember._standardise` and :mod:`features.score_scale`.

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
from features.score_scale import ScoreScale
from features.settings import BackboneSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from features.formula import FormulaModule
    from features.tensors import BackboneFeatures

ModuleT = TypeVar("ModuleT", bound="nn.Module")

_DEFAULT_BACKBONE = BackboneSettings()
_SCALE = "score_scale"


class ModuleMember(Member, Generic[ModuleT]):
    """A member whose fitted state is one module and, for anomaly scores, a scale.

    Subclasses set ``_module`` in :meth:`fit` and say in :meth:`_empty_module` how to build a module that a
    saved state fits into. Those that save more or less than the module's state dict override
    :meth:`_saved` and :meth:`_load`. One-class and semi-supervised members call :meth:`_standardise` at the
    end of their fit.

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
        self._scale: ScoreScale | None = None

    @abstractmethod
    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> ModuleT:
        """A module of the shapes of a saved state; its numbers are overwritten.

        Args:
            arrays: as :meth:`state` returned them.
            meta: likewise.
        """

    def _standardise(self, reference: FloatArray, *, may_be_negative: bool = False) -> None:
        """Give scores from now on relative to those of normal images.

        Args:
            reference: ``[R, 1]`` raw scores of majority rows of this fit. Where a row's own part in the fit
                makes its score smaller, as in a bank that holds it, it must be left out of that score;
                otherwise every new image would look odd.
            may_be_negative: whether the raw score is no distance, so that no logarithm is taken.
        """
        self._scale = ScoreScale.of_reference(reference, may_be_negative=may_be_negative)

    def score(self, rows: ImageRows) -> FloatArray:
        """``[N, C]`` float32 scores, by the same module that is exported."""
        from features.apply import score_with_module

        return score_with_module(self.to_module(), rows, self.needs)

    def raw_score(self, rows: ImageRows) -> FloatArray:
        """``[N, C]`` float32 scores of the fitted module, before they are standardised."""
        from features.apply import score_with_module

        return score_with_module(self.raw_module(), rows, self.needs)

    def raw_module(self) -> ModuleT:
        """The fitted module, whose scores are not standardised.

        Raises:
            DataError: the member is not fitted yet.
        """
        if self._module is None:
            raise DataError(f"{self.name}: not fitted yet.")
        return self._module

    def to_module(self) -> nn.Module:
        """The fitted module, with standardised scores where the member has a scale.

        Raises:
            DataError: the member is not fitted yet.
        """
        module = self.raw_module()
        if self._scale is None:
            return module
        from features.standardised import StandardisedModule

        return StandardisedModule(module, self._scale).eval()

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """What the subclass saves, and the scale."""
        arrays, meta = self._saved(self.raw_module())
        return arrays, meta if self._scale is None else {**meta, _SCALE: self._scale.to_json()}

    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:
        """Load a saved state."""
        self._module = self._load(arrays, meta)
        self._scale = ScoreScale.from_json(meta[_SCALE]) if _SCALE in meta else None
        return self

    def _saved(self, module: ModuleT) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and JSON values that :meth:`_load` rebuilds the module from: its state dict."""
        return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}, {}

    def _load(self, arrays: Arrays, meta: dict[str, Any]) -> ModuleT:
        """The module of a saved state, in evaluation mode."""
        import torch

        module = self._empty_module(arrays, meta)
        # Copied: torch warns of read-only arrays, and a loaded module must not change the caller's.
        module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        return module.eval()


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
