"""Data sets in which one class is made rare, found below ``--data`` or in installed packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.errors import DataError, UsageError, nearest_match
from contracts.rows import LabelArray
from imagedata.manifest import Manifest
from imagedata.manifest_row import ManifestRow
from reporting.terminal import note
from workflow.run.prepared import manifest_of
from workflow.settings.config import RunConfig, RunOptions, resolve_config
from workflow.settings.recipe import load_recipe_document

CLASS_NAMES = ("majority", "minority")

_AS_THEY_COME = ("imbalance=null", "test_per_class=null")
_STEEL = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
_CLOTHES = (("t_shirt", 0, "shirt", 6), ("pullover", 2, "coat", 4), ("sneaker", 7, "ankle_boot", 9))
# Of each class's 6,000 training images; the official test images are there as well.
_CLOTHES_KEPT = 400


@dataclass(frozen=True)
class SetPlan:
    """How a data set takes part.

    Attributes:
        name: of the set here.
        dataset: name in the catalogue, or a folder below ``--data``.
        minority: the class that is rare; all others together are the majority.
        overrides: as after ``-o``.
        folder: whether ``dataset`` is a folder.
        majority: the one class that is not rare, where all others are kinds of the minority; empty where
            ``minority`` says which is rare.
    """

    name: str
    dataset: str
    minority: str
    overrides: tuple[str, ...] = ()
    folder: bool = False
    majority: str = ""

    def is_minority(self, label: str) -> bool:
        """Whether a class of the data set is rare here."""
        return label != self.majority if self.majority else label == self.minority


def _clothes(normal: str, normal_label: int, rare: str, rare_label: int) -> SetPlan:
    both = {normal: normal_label, rare: rare_label}
    return SetPlan(
        f"fashion_mnist:{rare}",
        "fashion_mnist_lt",
        rare,
        (
            f"classes=[{normal}, {rare}]",
            f"layout.label_of_class={{{', '.join(f'{name}: {label}' for name, label in both.items())}}}",
            f"train_counts={{{', '.join(f'{name}: {_CLOTHES_KEPT}' for name in both)}}}",
        ),
    )


def _smears(rare: str) -> SetPlan:
    # The name before the last underscore is the smear.
    return SetPlan(f"blood_cells:{rare}", "blood_cells", rare, (r"group=([^/]+)_\d+\.",), folder=True)


PLANS = {
    plan.name: plan
    for plan in (
        SetPlan("elpv", "elpv", "defective", _AS_THEY_COME),
        SetPlan("gender", "gender", "female"),
        SetPlan("covid", "covid", "COVID", _AS_THEY_COME),
        SetPlan("screws_small", "screws_small", "anomalous", folder=True),
        *(_clothes(*pair) for pair in _CLOTHES),
        _smears("platelet"),
        _smears("white_cell"),
        *(SetPlan(f"neu:{rare}", "neu", rare, folder=True) for rare in _STEEL),
    )
}
"""All sets by name."""


def _others_than(normal: str, label_of_class: dict[str, int]) -> SetPlan:
    """Clothes of one class, and others as kinds of a minority."""
    classes = ", ".join(label_of_class)
    return SetPlan(
        f"fashion_mnist:{normal}",
        "fashion_mnist_lt",
        next(name for name in label_of_class if name != normal),
        (
            f"classes=[{classes}]",
            f"layout.label_of_class={{{', '.join(f'{name}: {k}' for name, k in label_of_class.items())}}}",
            f"train_counts={{{', '.join(f'{name}: {_KIND_KEPT}' for name in label_of_class)}}}",
            # The test images of a class would outnumber those that are kept for training.
            "layout.test=null",
        ),
        majority=normal,
    )


# Of each class, all of them training images; a set of six classes is drawn from three thousand.
_KIND_KEPT = 500

KIND_PLANS = {
    plan.name: plan
    for plan in (
        *(
            SetPlan(f"neu:{normal}", "neu", next(k for k in _STEEL if k != normal), (), True, normal)
            for normal in _STEEL
        ),
        _others_than("shirt", {"shirt": 6, "t_shirt": 0, "pullover": 2, "dress": 3, "coat": 4, "bag": 8}),
        SetPlan(
            "blood_cells:red_cell", "blood_cells", "platelet", (r"group=([^/]+)_\d+\.",), True, "red_cell"
        ),
    )
}
"""Sets in which one class is the majority and all others are kinds of the minority, by name."""


@dataclass(frozen=True)
class LabelledSet:
    """All usable images of a set, with two classes.

    Attributes:
        name: of the set.
        config: of the run that the set would be; its backbone, folds and members.
        manifest: with the classes of :data:`CLASS_NAMES`.
        rows: N usable rows, all for training as far as the manifest knows.
        labels: ``[N]`` 1 for the minority.
        groups: ``[N]`` names of groups.
    """

    name: str
    config: RunConfig
    manifest: Manifest
    rows: tuple[ManifestRow, ...]
    labels: LabelArray
    groups: npt.NDArray[np.str_]


def sets_named(names: Sequence[str], plans: Mapping[str, SetPlan] = PLANS) -> list[SetPlan]:
    """Plans by name, or by what stands before the colon; all where none is named.

    Args:
        names: of sets.
        plans: to choose among.

    Raises:
        UsageError: no such set.
    """
    if not names:
        return list(plans.values())
    chosen = []
    for name in names:
        mine = [plan for plan in plans.values() if name in (plan.name, plan.name.partition(":")[0])]
        if not mine:
            raise UsageError(
                f"--sets {name}: not known. Known are {', '.join(plans)}.{nearest_match(name, plans)}"
            )
        chosen += mine
    return chosen


def load_set(plan: SetPlan, data: Path | None, cache: Path, members: Sequence[str]) -> LabelledSet | None:
    """List and inspect a set; one that is not on this machine is skipped with a sentence.

    Args:
        plan: which set.
        data: directory that holds the data sets.
        cache: for features and what inspecting found.
        members: member types.
    """
    if plan.folder and (data is None or not (data / plan.dataset).is_dir()):
        note(f"{plan.name} is skipped: there is no folder {plan.dataset} below --data.")
        return None
    dataset = str(data / plan.dataset) if plan.folder and data is not None else plan.dataset
    options = RunOptions(
        dataset,
        None if plan.folder else data,
        overrides=(*_member_overrides(members), *plan.overrides),
        runs=cache,
        minority=plan.minority,
        device="cpu",
    )
    try:
        config = resolve_config(options)
        manifest = manifest_of(config)
    except DataError as missing:
        note(f"{plan.name} is skipped: {missing}")
        return None
    rows = [
        replace(row, split="train", label=CLASS_NAMES[plan.is_minority(row.label)], subtype=row.label)
        for row in (*manifest.usable("train"), *manifest.usable("test"))
    ]
    # One order, whichever way the set's images are split.
    rows.sort(key=lambda row: row.sha256)
    return LabelledSet(
        plan.name,
        config,
        replace(manifest, class_names=CLASS_NAMES, rows=tuple(rows)),
        tuple(rows),
        np.array([CLASS_NAMES.index(row.label) for row in rows], dtype=np.int64),
        np.array([row.group for row in rows]),
    )


def quick_members() -> list[str]:
    """Members of recipe quick, which users get who name none."""
    recipe, _ = load_recipe_document("quick")
    return [name for name, given in recipe["members"].items() if given is not False]


def _member_overrides(members: Sequence[str]) -> list[str]:
    """Overrides that make these the members of recipe quick."""
    left_out = [f"members.{name}=false" for name in quick_members() if name not in members]
    added = [f"members.{name}={{}}" for name in members if name not in quick_members()]
    return [*left_out, *added]
