"""Settings of the one-class members; importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PatchCoreSettings(BaseModel):
    """Settings of :class:`oneclass.patchcore.PatchCore`.

    Attributes:
        pca_dim: dimensions that patches are projected to; None leaves them as the trunk gives them.
        bank_size: patches kept in the bank, at most.
        candidate_patches: patches that the bank is chosen from, drawn evenly from the majority images;
            bounds memory and time whatever the number of images.
        image_score: ``top_mean`` (mean of the ``top_patches`` farthest patches), or ``reweighted``
            (the paper's equation 7: the farthest patch, weighed by how crowded its neighbourhood is).
        top_patches: for ``top_mean``; 1 is the plain maximum.
        neighbours: for ``reweighted``: b in the paper.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pca_dim: int | None = Field(default=128, ge=2)
    bank_size: int = Field(default=2000, ge=10)
    candidate_patches: int = Field(default=120_000, ge=100)
    image_score: Literal["top_mean", "reweighted"] = "top_mean"
    top_patches: int = Field(default=3, ge=1)
    neighbours: int = Field(default=9, ge=2)


class DeepSVDDSettings(BaseModel):
    """Settings of :class:`oneclass.deep_svdd.DeepSVDD`.

    Attributes:
        objective: ``one_class`` (equation 4) or ``soft_boundary`` (equation 3).
        nu: soft boundary: upper bound on the share of training images outside the sphere.
        hidden: units of the hidden layer.
        embedding_dim: coordinates of the space the sphere lies in.
        epochs: passes over the majority images.
        warm_up_epochs: epochs before the radius of the soft boundary is first set.
        learning_rate: of Adam.
        weight_decay: lambda in both equations.
        batch_size: images per step.
        attempts: initialisations that are tried before a collapsed network is given up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Literal["one_class", "soft_boundary"] = "one_class"
    nu: float = Field(default=0.1, gt=0.0, lt=1.0)
    hidden: int = Field(default=256, ge=4)
    embedding_dim: int = Field(default=128, ge=2)
    epochs: int = Field(default=8, ge=1)
    warm_up_epochs: int = Field(default=5, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=1e-6, ge=0.0)
    batch_size: int = Field(default=64, ge=2)
    attempts: int = Field(default=3, ge=1)
