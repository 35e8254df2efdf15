"""Members by type name. A new member is one file and one line here.

The modules behind the entries are imported only when a member is built, so that listing and checking
a recipe needs no torch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from contracts.errors import UsageError, nearest_match
from contracts.member import Member, MemberKind
from features.settings import TrunkSettings

CONTROL = "cnn"
"""The member that, calibrated and with a tuned threshold, is the null control."""


@dataclass(frozen=True)
class MemberEntry:
    """How to find a member.

    Attributes:
        kind: one-class or supervised.
        settings: ``module:Class`` of its settings model.
        factory: ``module:function`` of this package's :mod:`workflow.factories`.
        defaults: settings that this name stands for.
        summary: one line for people.
        seconds_per_row: what a training row costs in one fit on two cores, for ``--dry-run``; rough by
            nature, it tells minutes from hours.
    """

    kind: MemberKind
    settings: str
    factory: str
    defaults: dict[str, Any]
    summary: str
    seconds_per_row: float = 0.005


MEMBERS: dict[str, MemberEntry] = {
    "patchcore": MemberEntry(
        "oneclass",
        "oneclass.settings:PatchCoreSettings",
        "patchcore",
        {},
        "distance of patches to a bank of majority patches",
    ),
    "deep_svdd": MemberEntry(
        "oneclass",
        "oneclass.settings:DeepSVDDSettings",
        "deep_svdd",
        {},
        "distance from the centre that a bias-free network draws the majority to",
    ),
    "cnn": MemberEntry(
        "supervised",
        "supervised.settings:CnnSettings",
        "cnn",
        {},
        "plain cross-entropy; with calibration and a tuned threshold the null control",
        seconds_per_row=0.0005,
    ),
    "cnn_weighted": MemberEntry(
        "supervised",
        "supervised.settings:CnnSettings",
        "cnn",
        {"loss": "weighted_cross_entropy"},
        "cross-entropy with inverse-frequency class weights",
        seconds_per_row=0.0005,
    ),
    "cnn_focal": MemberEntry(
        "supervised",
        "supervised.settings:CnnSettings",
        "cnn",
        {"loss": "focal"},
        "focal loss, which turns towards the hard rows",
        seconds_per_row=0.0005,
    ),
}


def entry_of(member_type: str) -> MemberEntry:
    """Look a member type up.

    Raises:
        UsageError: no such type; names the nearest.
    """
    if member_type not in MEMBERS:
        raise UsageError(
            f"member type '{member_type}': not known. Known are {', '.join(MEMBERS)}."
            f"{nearest_match(member_type, MEMBERS)}"
        )
    return MEMBERS[member_type]


def settings_class(member_type: str) -> Any:
    """The settings model of a member type; imports no torch."""
    module, name = entry_of(member_type).settings.split(":")
    return getattr(importlib.import_module(module), name)


def build_member(member_type: str, settings: Any, trunk: TrunkSettings) -> Member:
    """An unfitted member.

    Args:
        member_type: a key of :data:`MEMBERS`.
        settings: an instance of its settings model.
        trunk: the trunk whose features it will read.
    """
    from workflow import factories

    member: Member = getattr(factories, entry_of(member_type).factory)(settings, trunk)
    return member
