"""Settings of the one-class members; importable without torch."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_BUDGETS = ("bank_size", "bank_ratio", "bank_mb", "bank_ms")


class PatchCoreSettings(BaseModel):
    """Settings of :class:`oneclass.patchcore.PatchCore`.

    The trunk's settings name the layers; it pools each over 3 x 3 positions before they come onto one grid.

    Attributes:
        neighbourhood: side of a further average pooling over neighbouring patches of that grid, odd; 1 is
            none.
        pca_dim: dimensions that patches are projected to; None leaves them as the trunk gives them.
        pca_rows: which patches mean and covariance are of: the ``candidates``, or ``all`` of the majority
            (one more pass over them; memory stays the same).
        whiten: divide each principal direction by its standard deviation.
        bank_size: patches kept in the bank, at most; 2,000 where no other budget is named.
        bank_ratio: bank size as a share of all majority patches, as the paper and anomalib have it.
        bank_mb: bank size as megabytes (1e6 bytes) in the exported file.
        bank_ms: bank size as milliseconds that scoring may take an image, beyond the trunk's, as measured
            where the member is fitted. It may differ from fit to fit; the receipt says what it came to.
        candidate_patches: patches that the bank is chosen from, drawn evenly from the majority images;
            bounds memory and time whatever the number of images.
        image_score: ``top_mean`` (mean of the ``top_patches`` farthest patches), ``knn_mean`` (the same,
            with the mean distance to the ``neighbours`` nearest bank patches instead of the nearest), or
            ``reweighted`` (the paper's equation 7: the farthest patch, weighed by how crowded its
            neighbourhood is).
        top_patches: for ``top_mean`` and ``knn_mean``; 1 is the plain maximum.
        neighbours: for ``reweighted`` (b in the paper) and ``knn_mean``.
        map_size: pixels a side of the map, upsampled in the graph; None is the patch grid.
        map_sigma: standard deviation of a Gaussian blur of the map, in its pixels; 0 is none.
        contamination_z: leave majority images out of the bank whose score in inner cross-fitting lies more
            than this many robust standard deviations above the median (:mod:`oneclass.contamination`);
            None keeps all. 3.5 is the usual cut for outliers.
        contamination_most: share of the majority images that may be left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbourhood: int = Field(default=1, ge=1, le=15)
    pca_dim: int | None = Field(default=128, ge=2)
    pca_rows: Literal["candidates", "all"] = "candidates"
    whiten: bool = False
    bank_size: int | None = Field(default=2000, ge=10)
    bank_ratio: float | None = Field(default=None, gt=0.0, le=1.0)
    bank_mb: float | None = Field(default=None, gt=0.0)
    bank_ms: float | None = Field(default=None, gt=0.0)
    candidate_patches: int = Field(default=120_000, ge=100)
    image_score: Literal["top_mean", "knn_mean", "reweighted"] = "top_mean"
    top_patches: int = Field(default=3, ge=1)
    neighbours: int = Field(default=9, ge=2)
    map_size: int | None = Field(default=None, ge=2, le=1024)
    map_sigma: float = Field(default=0.0, ge=0.0)
    contamination_z: float | None = Field(default=None, gt=0.0)
    contamination_most: float = Field(default=0.1, gt=0.0, lt=0.5)

    @model_validator(mode="before")
    @classmethod
    def _default_gives_way(cls, given: Any) -> Any:
        """Another budget takes the place of the default bank size, but not of one that was asked for."""
        if isinstance(given, dict) and any(given.get(name) is not None for name in _BUDGETS[1:]):
            return {"bank_size": None, **given}
        return given

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        named = [name for name in _BUDGETS if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(f"name one of {', '.join(_BUDGETS)}, not {' and '.join(named) or 'none'}")
        if self.neighbourhood % 2 == 0:
            raise ValueError(f"neighbourhood must be odd, so that it has a middle, got {self.neighbourhood}")
        return self

    @property
    def budget(self) -> str:
        """The budget that decides the bank's size, as it is written in a recipe."""
        name = next(name for name in _BUDGETS if getattr(self, name) is not None)
        return f"{name}={getattr(self, name):g}"


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
