"""What all supervised members share: logits as scores, and the ledger of class shares saved with them."""

from __future__ import annotations

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

    def _saved(self, module: ModuleT) -> tuple[Arrays, dict[str, Any]]:
        """All weights, K, and which class shares the logits answer for."""
        arrays, _ = super()._saved(module)
        fitted: Any = module
        return arrays, {"n_classes": fitted.n_classes, "prior_ledger": self._ledger}

    def _load(self, arrays: Arrays, meta: dict[str, Any]) -> ModuleT:
        self._ledger = meta["prior_ledger"]
        return super()._load(arrays, meta)
