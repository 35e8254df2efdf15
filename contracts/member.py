"""What every member of the ensemble promises, one-class or supervised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from contracts.files import Arrays
from contracts.rows import FloatArray, ImageRows

if TYPE_CHECKING:
    from torch import nn

MemberKind = Literal["oneclass", "semisupervised", "supervised"]
"""Which rows a member learns from. ``oneclass``: the majority's alone. ``semisupervised``: it models the
majority, too, and pushes labelled minority rows away from it. ``supervised``: it tells the classes apart."""
ScoreMeaning = Literal["anomaly_score", "logit"]
"""``anomaly_score``: 0 for a typical normal image, 1 for one standard deviation more; it may be negative.
``logit``: log-odds."""
MemberInput = Literal["pooled", "patches", "images"]
"""What a member's module reads: pooled features, patch features, or pixels."""


@dataclass(frozen=True)
class FitContext:
    """What :meth:`Member.fit` receives in addition to the rows.

    Attributes:
        seed: decides every random choice of the fit.
        device: ``"cpu"`` or ``"cuda"``.
        report: receives one short sentence per noteworthy event. It is shown to the user and kept in the
            cached result.
        record: receives a figure of a training step (metric, value, step), such as
            ``("validation_loss", 0.31, 4)`` after the fourth epoch. Steps count from 1. Kept in the cached
            result.
        keep: receives name and content of a small file for people to look at; no code reads it.
        targets: ``[N, K]`` float32 class probabilities, each row summing to 1, that a whole CNN learns
            instead of the labels of the N rows; None for the labels. Classes are still counted by the labels.
    """

    seed: int
    device: str = "cpu"
    report: Callable[[str], None] = field(default=lambda _: None)
    record: Callable[[str, float, int], None] = field(default=lambda *_: None)
    keep: Callable[[str, bytes], None] = field(default=lambda _name, _content: None)
    targets: FloatArray | None = None


class Member(ABC):
    """One model of the ensemble: fitted on training rows only, scored on any rows.

    A score is float32, and **higher means more like the minority**. The number of score columns C is 1 for
    one-class and semi-supervised members and for two classes, and K (logits) for supervised members with
    K > 2 classes.

    All members are built alike, as ``SomeMember(settings, backbone)``, so the registry needs their class and
    nothing else. The constructor stores; :meth:`fit` checks the settings against the rows.

    Attributes:
        kind: which rows the member learns from.
        score_meaning: what its score is.
        needs: which inputs its module reads; the others are empty tensors when it scores.
        settings: an instance of the member's own settings model.
        backbone: settings of the backbone whose features it reads, a
            :class:`features.settings.BackboneSettings`, which this room may not import.
    """

    kind: ClassVar[MemberKind]
    score_meaning: ClassVar[ScoreMeaning]
    needs: ClassVar[frozenset[MemberInput]]

    def __init__(self, settings: Any, backbone: Any) -> None:
        self.settings = settings
        self.backbone = backbone

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
        """Return the fitted member as a module that can be traced with a free batch size.

        ``forward(features) -> (scores [N, C], map [N, g, g] | None)``, where ``features`` is a
        :class:`features.tensors.BackboneFeatures`. The map has one cell per patch; members that read pixels
        may have a grid of their own.

        Raises:
            DataError: the member is not fitted yet.
        """

    @abstractmethod
    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return arrays and JSON values from which :meth:`restore` rebuilds the fitted member; no pickle."""

    @abstractmethod
    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:
        """Load a fitted state that :meth:`state` returned; the settings are those of the constructor."""


@runtime_checkable
class GrowingMember(Protocol):
    """A fitted member that can take in more normal images without being fitted again."""

    def add_normal(self, rows: ImageRows) -> int:
        """Learn from further majority rows. What scores are relative to stays that of the fit.

        Args:
            rows: new rows, none of which the member has seen. Their order does not change later scores.

        Returns:
            How many patches or features were added; 0 where the member knew all of them.
        """


@dataclass(frozen=True)
class NormalPatch:
    """A patch of a training image, as a neighbour of a patch of the image explained.

    Attributes:
        sha256: digest of the training image.
        cell: the patch's cell on that image's grid, ``row * g + column``.
        distance: to the patch explained, in the member's own space.
    """

    sha256: str
    cell: int
    distance: float


@dataclass(frozen=True)
class DecidingPatch:
    """A patch that an image's score was made of.

    Attributes:
        cell: on the image's grid, ``row * g + column``.
        distance: to the nearest normal patch. It equals the unsmoothed map there, unless the member averages
            over k neighbours. The image's score is not in its unit: it is standardised.
        nearest: normal patches, nearest first.
    """

    cell: int
    distance: float
    nearest: tuple[NormalPatch, ...]


@runtime_checkable
class ExplainingMember(Protocol):
    """A fitted member that can show which normal patches a score is a distance to."""

    def deciding_patches(
        self, patches: FloatArray, n_nearest: int, without: Collection[str] = (), most: int = 3
    ) -> list[DecidingPatch]:
        """The patches that decided an image's score, the one farthest from normal first.

        Args:
            patches: ``[C, g, g]`` patch features of one image.
            n_nearest: neighbours of each deciding patch, at most.
            without: digests of images that may not be neighbours: a training image would otherwise be
                explained by itself.
            most: deciding patches, at most.
        """

    def maps_without_own(self, rows: ImageRows) -> FloatArray:
        """``[N, g, g]`` maps of images, each as if the member had not learned from that image."""
