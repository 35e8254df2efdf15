"""Settings of the supervised members."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from features.settings import TrunkSettings

LossName = Literal[
    "cross_entropy",
    "weighted_cross_entropy",
    "focal",
    "asymmetric_focal",
    "ldam",
    "logit_adjustment",
    "vs",
    "soft_f1",
    "auc_margin",
    "partial_auc",
]


class LossSettings(BaseModel):
    """Which loss, with which numbers; those of other losses are ignored.

    Attributes:
        loss: see :mod:`supervised.losses` and :class:`supervised.objective.Objective`.
        weights: ``weighted_cross_entropy`` and deferred ``ldam``: ``inverse`` frequency, ``effective``
            number of samples, or one number a class in class order, minority last, such as ``[1, 10]``.
        effective_beta: of the effective number; rows beyond 1 / (1 - beta) add little.
        smoothing: cross-entropy forms: share of the target spread over all classes.
        gamma: focal forms: focusing exponent; the asymmetric form spares the minority.
        ldam_margin: ``ldam``: margin of the rarest class, in logit units.
        deferred_until: ``ldam`` with ``tune: full``: share of the epochs without class weights. A linear
            head ends at the weighted optimum wherever it starts, so there weights hold from the beginning.
        tau: ``logit_adjustment`` and ``vs``: strength of the adjustment; 1 is the balanced softmax.
        vs_gamma: ``vs``: exponent of the multiplicative factors.
        auc_margin: AUC forms: how far apart the scores of a pair should be, in probability.
        temperature: ``partial_auc``: small looks at the highest-ranked majority rows only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: LossName = "cross_entropy"
    weights: Literal["inverse", "effective"] | tuple[Annotated[float, Field(gt=0.0)], ...] = "inverse"
    effective_beta: float = Field(default=0.999, ge=0.0, lt=1.0)
    smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    gamma: float = Field(default=2.0, ge=0.0)
    ldam_margin: float = Field(default=0.5, gt=0.0)
    deferred_until: float = Field(default=0.8, ge=0.0, le=1.0)
    tau: float = Field(default=1.0, ge=0.0)
    vs_gamma: float = Field(default=0.15, ge=0.0)
    auc_margin: float = Field(default=1.0, gt=0.0)
    temperature: float = Field(default=1.0, gt=0.0)


class CnnSettings(LossSettings):
    """Settings of a CNN member: its loss, and how it is trained.

    Attributes:
        tune: ``head`` trains a head on the frozen trunk's pooled features (seconds); ``full`` fine-tunes
            a whole CNN (minutes).
        hidden: ``head``: units of one hidden layer; 0 is a linear head.
        l2: ``head``: ridge on the summed loss, on standardised features: scikit-learn's C is
            ``2 / l2`` for two classes (two opposite weight vectors share the ridge) and ``1 / l2`` for more.
        max_iterations: ``head``: at most this many L-BFGS iterations.
        backbone: ``full``: any trunk name; None means the recipe's trunk.
        image_size: ``full``: side that the working image is resized to, in pixels.
        epochs: ``full``: at most.
        patience: ``full``: epochs without a lower validation loss before stopping.
        validation_share: ``full``: share of the training rows set aside for early stopping.
        batch_size: ``full``: images per step.
        learning_rate: ``full``: of AdamW, with a cosine schedule.
        weight_decay: ``full``: of AdamW.
        flips: ``full``: which mirror images are the same thing; ``none`` where left and right matter.
    """

    tune: Literal["head", "full"] = "head"
    hidden: int = Field(default=0, ge=0)
    l2: float = Field(default=100.0, ge=0.0)
    max_iterations: int = Field(default=300, ge=1)
    backbone: TrunkSettings | None = None
    image_size: int = Field(default=128, ge=32, le=600)
    epochs: int = Field(default=12, ge=1)
    patience: int = Field(default=5, ge=1)
    validation_share: float = Field(default=0.15, gt=0.0, lt=0.5)
    batch_size: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=3e-4, gt=0.0)
    weight_decay: float = Field(default=0.05, ge=0.0)
    flips: Literal["none", "horizontal", "both"] = "horizontal"
