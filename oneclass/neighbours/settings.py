"""Settings of the members that score by nearest neighbours; importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from features.settings import BackboneSettings


class KnnSettings(BaseModel):
    """Settings of :class:`oneclass.neighbours.knn.Knn`.

    Attributes:
        neighbours: k, the number of majority rows whose distances are averaged.
        bank_size: majority rows to keep, drawn at random if there are more.
        pooled_scale: ``unit_length`` divides each row by its length, so that only directions are compared;
            ``standard`` divides each feature by its standard deviation over the majority; ``none`` takes
            pooled features as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbours: int = Field(default=2, ge=1)
    bank_size: int = Field(default=2000, ge=2)
    pooled_scale: Literal["none", "unit_length", "standard"] = "unit_length"


class MeanShiftedSettings(BaseModel):
    """Settings of :class:`oneclass.neighbours.mean_shifted.MeanShifted`.

    Attributes:
        network: to adapt; None means the recipe's backbone with its weights.
        image_size: side in pixels that images are resized to.
        epochs: passes over the majority images.
        learning_rate: of Adam.
        batch_size: images per step, each of them in two views.
        temperature: tau of the contrastive loss.
        max_images: majority images to learn from, drawn at random if there are more.
        flips: whether a random view may be mirrored. Use ``none`` where left and right (or up and down)
            differ in meaning.
        crop_scale_min: smallest share of the area that a random view shows.
        colour: strength of random brightness, contrast and saturation; 0 switches them off.
        neighbours: k of the distance to the adapted majority rows.
        bank_size: majority rows to keep, drawn at random if there are more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: BackboneSettings | None = None
    image_size: int = Field(default=128, ge=16, le=1024)
    epochs: int = Field(default=5, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0.0)
    batch_size: int = Field(default=32, ge=2)
    temperature: float = Field(default=0.25, gt=0.0)
    max_images: int = Field(default=5000, ge=2)
    flips: Literal["none", "horizontal", "both"] = "horizontal"
    crop_scale_min: float = Field(default=0.5, gt=0.0, le=1.0)
    colour: float = Field(default=0.4, ge=0.0, le=1.0)
    neighbours: int = Field(default=2, ge=1)
    bank_size: int = Field(default=2000, ge=2)
