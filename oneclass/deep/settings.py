"""Settings of Deep SVDD and Deep SAD; importable without torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SphereSettings(BaseModel):
    """What all members share that pull the majority into a sphere.

    Attributes:
        objective: ``one_class`` (Ruff et al. 2018, equation 4) or ``soft_boundary`` (equation 3).
        nu: soft boundary: upper bound on the share of training images outside the sphere.
        epochs: passes over the training images.
        warm_up_epochs: soft boundary: epochs of the one-class objective before the radius takes effect.
        learning_rate: of Adam.
        fine_tune_share: share of the epochs, at the end, that run at a tenth of the learning rate.
        weight_decay: lambda in the equations.
        batch_size: images per step.
        attempts: initialisations to try before giving up on a network that collapses.
        bias: give layers biases, with which a network reaches the centre whatever the image (proposition 2).
            Such a member is refused before training; the setting exists to demonstrate it.
        centre: ``mean`` of a first pass over the majority. ``origin``, which all-zero weights reach
            (proposition 1), is refused likewise and exists to demonstrate that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Literal["one_class", "soft_boundary"] = "one_class"
    nu: float = Field(default=0.1, gt=0.0, lt=1.0)
    epochs: int = Field(default=8, ge=1)
    warm_up_epochs: int = Field(default=5, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    fine_tune_share: float = Field(default=0.0, ge=0.0, lt=1.0)
    weight_decay: float = Field(default=1e-6, ge=0.0)
    batch_size: int = Field(default=64, ge=2)
    attempts: int = Field(default=3, ge=1)
    bias: bool = False
    centre: Literal["mean", "origin"] = "mean"


class DeepSVDDSettings(SphereSettings):
    """Settings of :class:`oneclass.deep.deep_svdd.DeepSVDD`.

    Attributes:
        hidden: units of the hidden layer.
        embedding_dim: dimensions of the space the sphere lies in.
    """

    hidden: int = Field(default=256, ge=4)
    embedding_dim: int = Field(default=128, ge=2)


class DeepSADSettings(DeepSVDDSettings):
    """Settings of :class:`oneclass.deep.deep_sad.DeepSAD`.

    Attributes:
        objective: always ``one_class``; the soft boundary has no form with labels.
        eta: weight of a labelled minority row, relative to a majority row's 1.
    """

    objective: Literal["one_class"] = "one_class"
    eta: float = Field(default=1.0, gt=0.0)


class DeepSVDDPixelsSettings(SphereSettings):
    """Settings of :class:`oneclass.deep.deep_svdd_pixels.DeepSVDDPixels`.

    Attributes:
        image_size: side in pixels that images are resized to. It selects the network: 28 is the paper's
            for MNIST (two convolutions), 32 the one for CIFAR-10 (three, at twenty times the cost).
        colours: ``rgb``, or ``gray`` for one channel of luminance.
        filters: of the convolutions, each of which halves the side; None means the paper's, (8, 4) or
            (32, 64, 128).
        embedding_dim: dimensions of the space the sphere lies in; None means the paper's, 32 or 128.
        contrast: ``global`` subtracts each image's mean, divides by its mean absolute deviation, and then
            maps the majority's smallest to largest value to 0…1; ``none`` maps 0…255 to 0…1.
        pretrain_epochs: of the autoencoder whose encoder the network starts from; 0 starts from random
            weights.
        pretrain_learning_rate: of Adam, for the autoencoder.
    """

    epochs: int = Field(default=40, ge=1)
    warm_up_epochs: int = Field(default=10, ge=0)
    fine_tune_share: float = Field(default=0.33, ge=0.0, lt=1.0)
    batch_size: int = Field(default=128, ge=2)
    image_size: Literal[28, 32] = 28
    colours: Literal["rgb", "gray"] = "rgb"
    filters: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    embedding_dim: int | None = Field(default=None, ge=2)
    contrast: Literal["global", "none"] = "global"
    pretrain_epochs: int = Field(default=30, ge=0)
    pretrain_learning_rate: float = Field(default=1e-3, gt=0.0)

    @model_validator(mode="after")
    def _side_can_be_halved(self) -> Self:
        halvings = len(self.filters or ())
        if self.image_size % 2**halvings:
            most = 2 if self.image_size == 28 else 5
            raise ValueError(
                f"filters: {halvings} convolutions halve {self.image_size} px too often; name at most {most}"
            )
        return self


class DeepSADPixelsSettings(DeepSVDDPixelsSettings):
    """Settings of :class:`oneclass.deep.deep_sad.DeepSADPixels`.

    Attributes:
        objective: always ``one_class``; the soft boundary has no form with labels.
        eta: weight of a labelled minority row, relative to a majority row's 1.
    """

    objective: Literal["one_class"] = "one_class"
    eta: float = Field(default=1.0, gt=0.0)
