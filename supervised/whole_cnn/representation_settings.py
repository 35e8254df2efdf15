"""Settings of SimCLR and of refitting a classifier; importable without torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SimclrSettings(BaseModel):
    """Settings of :func:`supervised.whole_cnn.simclr.pretrain`; the image size is the CNN's own.

    The views decide what the network learns to ignore. If a small spot marks the minority, a crop may cut it
    off, and the pair then teaches that the spot does not matter: raise ``crop_scale_min``. If colour marks
    the minority, lower ``colour``.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step, each in two views; the others of a batch are the negatives.
        temperature: of the similarities; a smaller one emphasises the nearest negatives.
        projection_dim: outputs of the projection MLP, which is discarded afterwards.
        learning_rate: of Adam, with a cosine schedule over the epochs.
        batch_norm: ``trained`` normalises by each batch and moves the running statistics, as the paper does;
            ``frozen`` keeps the statistics of the weights that training starts from; ``auto`` is frozen for
            pre-trained weights and trained for random ones.
        crop_scale_min: smallest share of the image's area that a view shows; with 1 it always spans the whole
            height or width.
        colour: strength of the colour jitter, from 0 (no change of colour, no grey views) to 1 (the paper's,
            for photographs).
        blur: probability that a view is blurred.
        flips: which reflections do not change the meaning of an image; ``none`` if left and right matter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=64, ge=2)
    temperature: float = Field(default=0.5, gt=0.0)
    projection_dim: int = Field(default=128, ge=2)
    learning_rate: float = Field(default=3e-4, gt=0.0)
    batch_norm: Literal["auto", "frozen", "trained"] = "auto"
    crop_scale_min: float = Field(default=0.2, gt=0.0, le=1.0)
    colour: float = Field(default=0.5, ge=0.0, le=1.0)
    blur: float = Field(default=0.5, ge=0.0, le=1.0)
    flips: Literal["none", "horizontal", "both"] = "horizontal"


class RetrainSettings(BaseModel):
    """How the classifier of a trained CNN is refitted; see :mod:`supervised.whole_cnn.retrain`.

    Attributes:
        method: ``none``, ``crt`` (a new linear classifier on the frozen features, classes balanced),
            ``tau_norm`` (weight vectors divided by a power of their norm) or ``lws`` (one learned scale per
            class).
        tau: ``tau_norm``: that power, 0 to 1; None chooses it on the rows set aside for early stopping.
        l2: ``crt``: ridge on the summed loss, on standardised features, as for a head.
        max_iterations: ``crt`` and ``lws``: at most this many L-BFGS iterations.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["none", "crt", "tau_norm", "lws"] = "none"
    tau: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    l2: float = Field(default=100.0, ge=0.0)
    max_iterations: int = Field(default=300, ge=1)

    @property
    def chooses_tau(self) -> bool:
        """Whether tau is chosen on rows set aside."""
        return self.method == "tau_norm" and self.tau is None

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> Self:
        idle = sorted(
            key for key in self.model_fields_set & set(_USED_BY) if self.method not in _USED_BY[key]
        )
        if idle:
            raise ValueError(
                f"{idle[0]}: no effect with method={self.method}; leave it out, or set method to "
                f"{' or '.join(_USED_BY[idle[0]])}"
            )
        return self


_USED_BY = {"tau": ("tau_norm",), "l2": ("crt",), "max_iterations": ("crt", "lws")}
