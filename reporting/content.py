"""What a report is made of; gathered by workflow, drawn here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from contracts.rows import FloatArray, ImageArray, LabelArray, MaskArray
from evaluation.curves import Curves
from evaluation.kinds import FIGURES
from evaluation.rows import Float64Array

Role = Literal["baseline", "best_single", "ensemble"]


@dataclass(frozen=True)
class Model:
    """A model whose curves are drawn.

    Attributes:
        role: decides colour and line.
        name: as people read it.
        row_name: its row of the comparison table.
        p: ``[N, K]`` class probabilities of the test rows, minority last.
        decision: ``[N]`` class index by its own rule, fixed out of fold.
        threshold: on the minority's probability, for two classes; None for more, which have one per class.
        curves: on the test rows.
    """

    role: Role
    name: str
    row_name: str
    p: Float64Array
    decision: LabelArray
    threshold: float | None
    curves: Curves


@dataclass(frozen=True)
class Decided:
    """What was decided among K > 2 classes, beside the truth; class names are hostile text."""

    decided: str
    p_decided: float
    truth: str
    p_truth: float


@dataclass(frozen=True)
class Picture:
    """A test image.

    Attributes:
        path: relative to the data set's root; hostile text.
        probability: probability of the minority by the ensemble.
        pixels: ``[S, S, 3]`` uint8 RGB as the models see them.
        heat: ``[g, g]`` evidence on the patch grid, higher = more anomalous; None where no member has a map.
        decided: what is written below it for K > 2 classes.
    """

    path: str
    probability: float
    pixels: ImageArray
    heat: FloatArray | None
    decided: Decided | None = None


@dataclass(frozen=True)
class Gallery:
    """Pictures that belong together, the most confident first."""

    title: str
    sentence: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class StackRow:
    """What a member contributes to the stack; see :class:`ensemble.stacking.contribution.Contribution`."""

    member: str
    weight: float
    log_loss_change: tuple[float, float, float] | None
    average_precision_change: float | None


@dataclass(frozen=True)
class Stack:
    """The stack of all members, out of fold.

    Attributes:
        log_loss: of the whole stack, in nats per row.
        average_precision: of the whole stack.
        rows: one per member.
        is_kept: False where the gate preferred a single member.
        sentences: of gate, calibrator, prior and threshold.
    """

    log_loss: float
    average_precision: float
    rows: Sequence[StackRow]
    is_kept: bool
    sentences: Sequence[str]


@dataclass(frozen=True)
class MaskedPicture:
    """A test anomaly with its mask and the exported map.

    Attributes:
        path: relative to the data set's root; hostile text.
        kind: of anomaly; hostile text, empty where kinds have no names.
        pixel_auroc: within this image.
        pixels: ``[S, S, 3]`` uint8 RGB as the model sees the image.
        mask: ``[S, S]`` True where the image is anomalous.
        heat: ``[g, g]`` the map, higher = more anomalous.
    """

    path: str
    kind: str
    pixel_auroc: float
    pixels: ImageArray
    mask: MaskArray
    heat: FloatArray


@dataclass(frozen=True)
class Localised:
    """How well the exported map finds what masks mark, on test images.

    Attributes:
        masks: test anomalies that have a mask.
        document: as ``localise`` measured it of the present file; None where it did not.
        commands: command lines that measure it, in order; empty where it is measured, or nothing can be.
        pictures: the best, the middle and the worst one.
    """

    masks: int
    document: Mapping[str, Any] | None = None
    commands: Sequence[str] = ()
    pictures: Sequence[MaskedPicture] = ()


@dataclass(frozen=True)
class Moved:
    """An image whose answer moved under a change that no eye sees.

    Attributes:
        path: relative to the data set's root; hostile text.
        title: of the perturbation.
        before: the minority's probability, or p_normal.
        after: the same of the changed image.
        pixels: ``[S, S, 3]`` uint8 RGB as it is.
        changed_pixels: the changed image.
    """

    path: str
    title: str
    before: float
    after: float
    pixels: ImageArray
    changed_pixels: ImageArray


@dataclass(frozen=True)
class Stability:
    """How much the answer changes where the image hardly does.

    Attributes:
        document: under ``stability`` in the document of ``ensemble``.
        pictures: of the images that moved most; none where pictures are left out.
    """

    document: Mapping[str, Any]
    pictures: Sequence[Moved] = ()


@dataclass(frozen=True)
class Origin:
    """How to make the run again.

    Attributes:
        commands: command lines, in order.
        seed: of the run.
        recipe_yaml: the resolved recipe.
        dataset_yaml: the resolved data set.
        versions: package → version.
        digests: what → digest.
    """

    commands: Sequence[str]
    seed: int
    recipe_yaml: str
    dataset_yaml: str
    versions: Mapping[str, str]
    digests: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes:
        title: of the data set, for people.
        source: where the images come from.
        licence: of the images.
        comparison: the document of ``comparison.json``.
        facts: counts, folds and priors, as ``data_facts`` of workflow gives them.
        left_out_images: status → first few ``(path, reason)`` of images that stay out.
        shared: what must not be shared between training and test rows, or folds → how many are; must be 0.
        labels: ``[N]`` class index of test rows, minority last.
        threshold_rule: as the recipe writes it.
        models: the baseline first; identical models appear once.
        n_replicates: behind every band.
        stack: the stack, member by member.
        galleries: most confident errors and hits.
        heat_source: where the maps come from; empty where there are none.
        origin: how to make it again.
        localised: how well the map finds what masks mark; None where the data set has no masks.
        learning_curve: the document of ``learning_curve.json``; None where the run has no labels.
        stability: of the shipped ensemble; None where that is of other members or settings.
        in_use: ``triage`` and ``in_use`` of the ensemble's document; None likewise.
    """

    title: str
    source: str
    licence: str
    comparison: Mapping[str, Any]
    facts: Mapping[str, Any]
    left_out_images: Mapping[str, Sequence[tuple[str, str]]]
    shared: Mapping[str, int]
    labels: LabelArray
    threshold_rule: str
    models: Sequence[Model]
    n_replicates: int
    stack: Stack
    galleries: Sequence[Gallery]
    heat_source: str
    origin: Origin
    localised: Localised | None = None
    learning_curve: Mapping[str, Any] | None = None
    stability: Stability | None = None
    in_use: Mapping[str, Any] | None = None

    @property
    def n_repeats(self) -> int:
        """Repeats of the training that the table's figures are means over."""
        return int(self.comparison.get("repeats", 1))

    @property
    def is_cross_validated(self) -> bool:
        """Whether figures stand on the training rows, by nested cross-fitting."""
        return self.comparison.get("measured") == "cross_validation"

    @property
    def minority(self) -> str:
        """Name of the minority class."""
        return str(self.facts["minority"])

    @property
    def classes(self) -> Sequence[str]:
        """K names, minority last."""
        names: Sequence[str] = self.facts["classes"]
        return names

    @property
    def has_two_classes(self) -> bool:
        """True where one threshold on one probability decides, and costs of two errors can be weighed."""
        return len(self.classes) == 2

    def rarest_first(self) -> list[int]:
        """Class indices by rising number of training images; of equal ones the later, as the minority is."""
        train = self.facts["train"]
        return sorted(range(len(self.classes)), key=lambda label: (train[self.classes[label]], -label))

    @property
    def final(self) -> Model:
        """The model that is used: the gated ensemble, the last one drawn."""
        return self.models[-1]


Figures = Sequence[float]
"""A value with its interval."""

_HEADINGS = {
    True: ("Kinds never seen in training", "Recall by kind"),
    False: ("Clusters never seen in training (not named kinds)", "Recall by cluster (not a named kind)"),
}
KIND_COLUMNS = ("baseline", "baseline, kind never seen", "ensemble", "ensemble, kind never seen")
"""Of the table by kind; an image counts as seen where other images of its kind were learnt from."""


@dataclass(frozen=True)
class KindTables:
    """What a document says by kind.

    Attributes:
        heading_never_seen: of the one table.
        heading_by_kind: of the other; both say where kinds are clusters.
        sentence: on which images the figures on kinds never seen stand, or why there are none.
        headings: of the figures on kinds never seen.
        never_seen: row of the results table → those figures; empty where none were measured.
        by_kind: kind → its number of training images, and what stands in :data:`KIND_COLUMNS`; None where
            nothing was measured.
    """

    heading_never_seen: str
    heading_by_kind: str
    sentence: str
    headings: Sequence[str]
    never_seen: Mapping[str, Sequence[Figures]]
    by_kind: Mapping[str, tuple[int, Sequence[Figures | None]]]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> KindTables | None:
        """The tables of a document of ``ensemble`` or ``compare``; None where no kinds are known."""
        kinds, rows = document.get("kinds"), document["rows"]
        if kinds is None:
            return None
        shown = [row for kind in ("baseline", "ensemble") for row in rows if row["kind"] == kind]
        names = {name: None for row in shown for name in row["recall_by_kind"]}
        images = kinds["images"]
        return cls(
            *_HEADINGS[rows[0]["kinds_are_named"]],
            kinds["sentence"],
            tuple(FIGURES.values()),
            {row["name"]: [row["never_seen"][f] for f in FIGURES] for row in rows if "never_seen" in row},
            {
                name: (
                    images.get(name, 0),
                    [
                        row["recall_by_kind"].get(name, {}).get(how)
                        for row in shown
                        for how in ("seen", "never_seen")
                    ],
                )
                for name in sorted(names, key=lambda name: (-images.get(name, 0), name))
            },
        )
