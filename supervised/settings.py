"""Settings of the supervised members."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from features.settings import TrunkSettings

LossName = Literal["cross_entropy", "weighted_cross_entropy", "focal"]


class CnnSettings(BaseModel):
    """Settings of a CNN member.

    Attributes:
        loss: how rows enter the objective.
        gamma: of the focal loss.
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

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: LossName = "cross_entropy"
    gamma: float = Field(default=2.0, ge=0.0)
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
