"""What all supervised members share: logits as scores, and the ledger of class shares saved with them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Generic

from contracts.files import Arrays
from contracts.member import MemberKind, ScoreMeaning
from features.member import ModuleMember, ModuleT


class LogitMember(ModuleMember[ModuleT], Generic[ModuleT]):
    """Scores are log-odds of the minority for two classes, and K centred logits for more.

    Its module has an attribute ``n_classes``.
    """

    kind: ClassVar[MemberKind] = "supervised"
    score_meaning: ClassVar[ScoreMeaning] = "logit"
    # JSON form of the supervised.objective.PriorLedger of the fit.
    _ledger: dict[str, Any]
    # What the fit chose by itself, for the record; empty where the settings say everything.
    _chosen: Mapping[str, Any] = MappingProxyType({})

    def _saved(self, module: ModuleT) -> tuple[Arrays, dict[str, Any]]:
        """All weights, K, which class shares the logits answer for, and what the fit chose."""
        arrays, _ = super()._saved(module)
        fitted: Any = module
        meta = {"n_classes": fitted.n_classes, "prior_ledger": self._ledger}
        return arrays, {**meta, "chosen": dict(self._chosen)} if self._chosen else meta

    def _load(self, arrays: Arrays, meta: dict[str, Any]) -> ModuleT:
        self._ledger = meta["prior_ledger"]
        self._chosen = meta.get("chosen", {})
        return super()._load(arrays, meta)
