"""Settings of the one-class members; importable without torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from features.settings import BackboneSettings

_BUDGETS = ("bank_size", "bank_ratio", "bank_mb", "bank_ms")


class PatchCoreSettings(BaseModel):
    """Settings of :class:`oneclass.patchcore.member.PatchCore`.

    The backbone's settings name the layers; it pools each over 3 x 3 positions before they come onto one
    grid.

    Attributes:
        neighbourhood: side of a further average pooling over neighbouring patches of that grid, odd; 1 is
            none.
        pca_dim: dimensions that patches are projected to; None leaves them as the backbone gives them.
        pca_rows: which patches mean and covariance are of: the ``candidates``, or ``all`` of the majority
            (one more pass over them; memory stays the same).
        whiten: divide each principal direction by its standard deviation.
        bank_size: patches kept in the bank, at most; 2,000 where no other budget is named.
        bank_ratio: bank size as a share of all majority patches, as the paper and anomalib have it.
        bank_mb: bank size as megabytes (1e6 bytes) in the exported file.
        bank_ms: bank size as milliseconds that scoring may take an image, beyond the backbone's, as measured
            where the member is fitted. It may differ from fit to fit; the cached result says what it came to.
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
            than this many robust standard deviations above the median
            (:mod:`oneclass.patchcore.contamination`); None keeps all. 3.5 is the usual cut for outliers.
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


class SphereSettings(BaseModel):
    """What all members have in common that draw the majority together in a sphere.

    Attributes:
        objective: ``one_class`` (Ruff et al. 2018, equation 4) or ``soft_boundary`` (equation 3).
        nu: soft boundary: upper bound on the share of training images outside the sphere.
        epochs: passes over the training images.
        warm_up_epochs: epochs before the radius of the soft boundary is first set.
        learning_rate: of Adam.
        fine_tune_share: last part of the epochs, which runs at a tenth of the learning rate.
        weight_decay: lambda in the equations.
        batch_size: images per step.
        attempts: initialisations that are tried before a collapsed network is given up.
        bias: give layers biases, with which a network reaches the centre whatever the image (proposition 2).
            Such a member counts as collapsed before it is trained; the setting is there to see that happen.
        centre: ``mean`` of a first pass over the majority; ``origin``, which all-zero weights reach
            (proposition 1), is there for the same reason.
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
        embedding_dim: coordinates of the space the sphere lies in.
    """

    hidden: int = Field(default=256, ge=4)
    embedding_dim: int = Field(default=128, ge=2)


class DeepSADSettings(DeepSVDDSettings):
    """Settings of :class:`oneclass.deep.deep_sad.DeepSAD`.

    Attributes:
        objective: there is no soft boundary with labels.
        eta: weight of a labelled minority row beside a majority row's 1.
    """

    objective: Literal["one_class"] = "one_class"
    eta: float = Field(default=1.0, gt=0.0)


class DeepSVDDPixelsSettings(SphereSettings):
    """Settings of :class:`oneclass.deep.deep_svdd_pixels.DeepSVDDPixels`.

    Attributes:
        image_size: side in pixels that images are resized to. It decides the form of the network: 28 is the
            paper's for MNIST (two convolutions), 32 the one for CIFAR-10 (three, at twenty times the cost).
        colours: ``rgb``, or ``gray`` for one channel of luminance.
        filters: of the convolutions, each of which halves the side; None means the paper's, (8, 4) or
            (32, 64, 128).
        embedding_dim: coordinates of the space the sphere lies in; None means the paper's, 32 or 128.
        contrast: ``global``: every image less its mean, divided by its mean absolute deviation, and all of
            them brought to 0…1 by the majority's least and largest value; ``none``: 0…255 to 0…1.
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
        objective: there is no soft boundary with labels.
        eta: weight of a labelled minority row beside a majority row's 1.
    """

    objective: Literal["one_class"] = "one_class"
    eta: float = Field(default=1.0, gt=0.0)


class MahalanobisSettings(BaseModel):
    """Settings of :class:`oneclass.mahalanobis.Mahalanobis`.

    Attributes:
        max_rows: majority rows that mean and covariance are estimated from, drawn at random where there are
            more; bounds memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_rows: int = Field(default=20_000, ge=2)


class KnnSettings(BaseModel):
    """Settings of :class:`oneclass.neighbours.knn.Knn`.

    Attributes:
        neighbours: k, majority rows that the distance is the mean of.
        bank_size: majority rows kept, drawn at random where there are more.
        pooled_scale: ``unit_length`` divides each row by its length, so that distances are those of
            directions; ``standard`` divides each feature by its standard deviation over the majority;
            ``none`` takes pooled features as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbours: int = Field(default=2, ge=1)
    bank_size: int = Field(default=2000, ge=2)
    pooled_scale: Literal["none", "unit_length", "standard"] = "unit_length"


class MeanShiftedSettings(BaseModel):
    """Settings of :class:`oneclass.neighbours.mean_shifted.MeanShifted`.

    Attributes:
        network: network that is adapted; None means the backbone, with the backbone's weights.
        image_size: side in pixels that images are resized to.
        epochs: passes over the majority images.
        learning_rate: of Adam.
        batch_size: images per step; their second views are as many again.
        temperature: tau of the contrastive loss.
        max_images: majority images that are learnt from, drawn at random where there are more.
        flips: whether a random view may be mirrored; ``none`` where left and right (up and down) mean
            something.
        crop_scale_min: smallest share of the area that a random view shows.
        colour: strength of random brightness, contrast and saturation; 0 switches them off.
        neighbours: k of the distance to the adapted majority rows.
        bank_size: majority rows kept, drawn at random where there are more.
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
