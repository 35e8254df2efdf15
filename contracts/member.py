"""The promise every member keeps, one-class or supervised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from contracts.files import Arrays
from contracts.rows import FloatArray, ImageRows

if TYPE_CHECKING:
    from torch import nn

MemberKind = Literal["oneclass", "semisupervised", "supervised"]
"""Which rows a member learns from: ``oneclass`` the majority's alone; ``semisupervised`` models the majority
too, and pushes the minority rows it is given away from it; ``supervised`` tells the classes apart."""
ScoreMeaning = Literal["anomaly_score", "logit"]
MemberInput = Literal["pooled", "patches", "images"]


@dataclass(frozen=True)
class FitContext:
    """What ``fit`` is given beside the rows.

    Attributes:
        seed: every random choice of the fit follows from it.
        device: ``"cpu"`` or ``"cuda"``.
        report: receives one short sentence per noteworthy event (shown to the user, kept in the result).
        record: receives a figure of a step of training (metric, value, step), such as
            ``("validation_loss", 0.31, 4)`` after the fourth epoch; steps count from 1. Kept in the cached
            result.
        keep: receives name and content of a small file that people may want to look at; nothing reads it.
        targets: ``[N, K]`` float32 class shares, each row summing to 1, that a whole CNN learns in place of
            the N rows' labels; None where the labels are all there is. Labels still count the classes.
    """

    seed: int
    device: str = "cpu"
    report: Callable[[str], None] = field(default=lambda _: None)
    record: Callable[[str, float, int], None] = field(default=lambda *_: None)
    keep: Callable[[str, bytes], None] = field(default=lambda _name, _content: None)
    targets: FloatArray | None = None


class Member(ABC):
    """One model of the ensemble: fitted on training rows only, scored on any rows.

    A score is float32, and **higher means more like the minority**. Score columns C: 1 for one-class
    and semi-supervised members and for two classes; K logits of supervised members for K > 2 classes.

    Subclasses store settings in ``__init__`` and check them against the rows in :meth:`fit`.
    """

    kind: ClassVar[MemberKind]
    score_meaning: ClassVar[ScoreMeaning]

    @property
    @abstractmethod
    def needs(self) -> frozenset[MemberInput]:
        """Which inputs the member's module reads."""

    @abstractmethod
    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Learn from ``rows``, which are training rows; one-class members ignore the minority's.

        Raises:
            DataError: the rows cannot support the fit (no majority rows, a class missing).
            MemberCollapsedError: the fitted model no longer tells images apart.
        """

    @abstractmethod
    def score(self, rows: ImageRows) -> FloatArray:
        """Return ``[N, C]`` float32 scores, higher = more like the minority."""

    @abstractmethod
    def to_module(self) -> nn.Module:
        """Return the fitted member as a module, traceable at any batch size.

        ``forward(features) -> (scores [N, C], map [N, g, g] | None)``, where ``features`` is a
        :class:`features.tensors.BackboneFeatures`. The map's grid is that of the patches, or one of its own
        for members that read pixels.
        """

    @abstractmethod
    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return arrays and JSON facts that :meth:`restore` rebuilds the fitted member from; no pickle."""

    @abstractmethod
    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:
        """Take over a fitted state saved by :meth:`state`; the settings are those of the constructor."""


@runtime_checkable
class GrowingMember(Protocol):
    """A member that can take in further normal images once it is fitted, without being fitted anew."""

    def add_normal(self, rows: ImageRows) -> int:
        """Learn from further majority rows, which no score given before had seen.

        Args:
            rows: the new rows; the same set in any order gives members that score alike.

        Returns:
            How much was taken in, in the member's own unit (patches, features); 0 where it knew all of it.
        """
