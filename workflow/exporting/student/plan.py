"""What a student is: its network, its size, its training; and the run that trains it.

A student is a run of one member. It lies in the teacher's run folder, below ``student/NAME@SIZE/``, works at
the student's own image size, and has the teacher's rows, folds and groups; its cached results are those of
any other run, so training continues where it was interrupted, and other limits need no new training.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from contracts.errors import UsageError
from contracts.rows import FloatArray, LabelArray
from ensemble.out_of_fold import out_of_fold_probabilities
from features.settings import BackboneSettings
from supervised.settings import CnnSettings
from workflow.run.prepared import PreparedData
from workflow.run.state import Run
from workflow.settings.config import RunConfig
from workflow.settings.recipe import MemberPlan

MEMBER = "student"
TYPE = "cnn_tuned"
DEFAULT_EPOCHS = 12

LABEL_WEIGHT = 0.5
"""Share of the true label in what a student learns; the rest is the teacher's probability."""

# So that another order of summation on another machine makes no other targets.
_TARGET_DECIMALS = 6
_SIZES = (16, 600)


@dataclass(frozen=True)
class StudentPlan:
    """A student, before anything is trained.

    Attributes:
        backbone: name of its network; see :class:`features.settings.BackboneSettings`.
        image_size: side of its working image in pixels.
        epochs: of its training.
    """

    backbone: str
    image_size: int
    epochs: int = DEFAULT_EPOCHS

    @classmethod
    def parse(cls, text: str, epochs: int = DEFAULT_EPOCHS) -> StudentPlan:
        """Read ``NAME@SIZE``.

        Raises:
            UsageError: it is not of that form, or the size is out of bounds.
        """
        name, _, size = text.rpartition("@")
        low, high = _SIZES
        if not name or not size.isdecimal() or not low <= int(size) <= high:
            raise UsageError(
                f"--student '{text}': write NAME@SIZE with {low} to {high} pixels, such as "
                "tf_efficientnet_lite0@96 or small_cnn@32."
            )
        return cls(name, int(size), epochs)

    @property
    def name(self) -> str:
        """``NAME@SIZE``."""
        return f"{self.backbone}@{self.image_size}"

    @property
    def settings(self) -> CnnSettings:
        """Of the member: a whole CNN on all rows; soft targets leave little to stop early for."""
        return CnnSettings(
            tune="full",
            network=BackboneSettings(name=self.backbone, image_size=self.image_size),
            image_size=self.image_size,
            epochs=self.epochs,
            validation_share=0.0,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON facts for :meth:`from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> StudentPlan:
        """Make the plan again; further facts in the document are passed over."""
        return cls(document["backbone"], document["image_size"], document["epochs"])


def student_config(config: RunConfig, plan: StudentPlan) -> RunConfig:
    """The configuration of the run that trains a student.

    Args:
        config: of the teacher's run.
        plan: the student.
    """
    # The recipe's backbone says at which size images are decoded; the member's own backbone is the teacher's,
    # which is there already and of which a whole CNN reads nothing.
    size = BackboneSettings(name=plan.backbone, image_size=plan.image_size)
    # It is made to be cheap, so that it sees each image once, whatever its teacher does.
    once = {"repeats": 1, "select": "first", "views_at_scoring": "none"}
    recipe = config.recipe.model_copy(update={"backbone": size, **once})
    member = MemberPlan(name=MEMBER, type=TYPE, settings=plan.settings, backbone=config.recipe.backbone)
    folder = config.folder / "student" / plan.name.replace(":", "_")
    return replace(config, recipe=recipe, members=(member,), folder=folder)


def student_data(run: Run) -> PreparedData:
    """The teacher's rows with what it said of them out of fold; feedback images teach nobody.

    They have no member fitted on them, here as elsewhere; the stacker that makes the targets has seen them.
    """
    first = run.data.of_repeat(run.repeats[0])
    return replace(first, more_folds=(), added=(), targets=soft_targets(run))


def soft_targets(run: Run) -> FloatArray:
    """``[N, K]`` class shares that the student is to learn of the N training rows, minority last.

    Half the true label (:data:`LABEL_WEIGHT`), half the teacher's calibrated probability at the training
    rows' own class shares, by members, stacker and calibrator that were fitted without the row's fold.
    """
    n_rows = len(run.data.train)
    # Feedback images follow the training rows.
    p = out_of_fold_probabilities(run.oof, run.fitted.method)[:n_rows]
    return mixed_targets(run.oof.labels[:n_rows], p)


def mixed_targets(labels: LabelArray, p: np.ndarray) -> FloatArray:
    """``[N, K]`` rounded mixture of one-hot labels and probabilities.

    Args:
        labels: ``[N]`` class index.
        p: ``[N, K]`` the teacher's probabilities.
    """
    one_hot = np.eye(p.shape[1])[labels]
    mixed = LABEL_WEIGHT * one_hot + (1.0 - LABEL_WEIGHT) * p
    return np.round(mixed, _TARGET_DECIMALS).astype(np.float32)
