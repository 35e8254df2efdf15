"""Everything that the audit of a data set found, before anything is judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagedata.audit.duplicates import Duplicates
from imagedata.audit.fact_table import FactTable
from imagedata.audit.groups import GroupGuess
from imagedata.audit.rules import FileFinding
from imagedata.audit.shortcuts import Shortcut
from imagedata.layouts.listed_image import ListedImage
from imagedata.spec import DataSpec


@dataclass(frozen=True)
class Audit:
    """What was found, and the spec that it was found under.

    Attributes:
        spec: of the data set, with the group rule that is enforced or was confirmed.
        root: folder that paths are relative to.
        images: ``[N]`` listed files.
        facts: ``[N]``.
        findings: about single files.
        duplicates: equal files and near copies among all files.
        guesses: of patients and lots; empty where the spec has a rule.
        groups_denied: the user stated that there are no groups.
        shortcuts: facts about files that differ, and how well each predicts the label.
        not_measured: why no shortcut was measured; empty where some were.
        training: status → images, as training would treat them; None where it would refuse the set.
        refused: why training would refuse it.
        imbalance: class counts and what they support.
        near_file: where the list of near copies is written.
    """

    spec: DataSpec
    root: Path
    images: list[ListedImage]
    facts: FactTable
    findings: list[FileFinding]
    duplicates: Duplicates
    guesses: list[GroupGuess]
    groups_denied: bool
    shortcuts: list[Shortcut]
    not_measured: str
    training: dict[str, int] | None
    refused: str
    imbalance: dict[str, Any]
    near_file: Path
