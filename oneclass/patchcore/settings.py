"""Settings of PatchCore; importable without torch."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator
from pydantic import SerializerFunctionWrapHandler as Serializer

_BUDGETS = ("bank_size", "bank_ratio", "bank_mb", "bank_ms")


class PatchCoreSettings(BaseModel):
    """Settings of :class:`oneclass.patchcore.member.PatchCore`.

    The backbone's settings name the layers. It pools each of them over 3 x 3 positions before it resamples
    them to one grid.

    Attributes:
        neighbourhood: side of an additional average pooling over neighbouring patches of that grid, odd; 1 is
            none.
        pca_dim: principal directions that patches are projected to, at most; None keeps all of them.
        pca_rows: patches that mean and covariance are estimated from: the ``candidates``, or ``all`` of the
            majority (one more pass over them; memory stays the same).
        whiten: divide each principal direction by its standard deviation, after shrinkage, so that distances
            are Mahalanobis's. It finds more on parts that all look alike, less on textures
            (docs/results/patchcore.md). Without it, and with as many directions as channels, patches stay as
            the backbone computes them.
        shrinkage: of the covariance that whitening stands on, towards the mean variance in every direction:
            0 is none, 1 makes all directions alike.
        bank_size: largest number of patches in the bank; 1,000 unless another budget is named.
        bank_ratio: bank size as a share of all majority patches, as in the paper and in anomalib.
        bank_mb: bank size as megabytes (1e6 bytes) in the exported file.
        bank_ms: bank size as milliseconds per image that scoring may take in addition to the backbone,
            measured where the member is fitted. It may differ from fit to fit; the cached result says which
            size it gave.
        candidate_patches: patches that the bank is chosen from, drawn evenly from the majority images. It
            bounds memory and time, whatever the number of images.
        image_score: ``top_or_all`` (the larger of ``top_mean`` and the mean of all patches' relative
            distances, each on the scale of normal images: see :mod:`oneclass.patchcore.usual`), ``top_mean``
            (mean of the ``top_patches`` farthest patches), ``knn_mean`` (the same, with the mean distance to
            the ``neighbours`` nearest bank patches instead of the nearest), or ``reweighted`` (the paper's
            equation 7: the farthest patch, weighed by how crowded its neighbourhood is).
        top_patches: for all but ``reweighted``; 1 is the plain maximum.
        neighbours: for ``reweighted`` (b in the paper) and ``knn_mean``.
        nearby: compare a patch only with bank patches at most so many rows and columns of the patch grid
            away, for parts that lie alike in every picture; None compares it with all. For ``top_or_all`` and
            ``top_mean`` (:mod:`oneclass.patchcore.nearby`).
        map_size: pixels per side of the map, upsampled in the graph; None keeps the patch grid.
        map_sigma: standard deviation of a Gaussian blur of the map, in its pixels; 0 is none.
        contamination_z: exclude majority images from the bank whose score in inner cross-fitting lies more
            than this many robust standard deviations above the median
            (:mod:`oneclass.patchcore.contamination`); None keeps all. 3.5 is the usual limit for outliers.
        contamination_most: largest share of the majority images that may be excluded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbourhood: int = Field(default=1, ge=1, le=15)
    pca_dim: int | None = Field(default=512, ge=2)
    pca_rows: Literal["candidates", "all"] = "candidates"
    whiten: bool = False
    shrinkage: float = Field(default=0.3, ge=0.0, le=1.0)
    bank_size: int | None = Field(default=1000, ge=10)
    bank_ratio: float | None = Field(default=None, gt=0.0, le=1.0)
    bank_mb: float | None = Field(default=None, gt=0.0)
    bank_ms: float | None = Field(default=None, gt=0.0)
    candidate_patches: int = Field(default=120_000, ge=100)
    image_score: Literal["top_or_all", "top_mean", "knn_mean", "reweighted"] = "top_or_all"
    top_patches: int = Field(default=3, ge=1)
    neighbours: int = Field(default=9, ge=2)
    nearby: int | None = Field(default=None, ge=0, le=256)
    map_size: int | None = Field(default=None, ge=2, le=1024)
    map_sigma: float = Field(default=0.0, ge=0.0)
    contamination_z: float | None = Field(default=None, gt=0.0)
    contamination_most: float = Field(default=0.1, gt=0.0, lt=0.5)

    @model_serializer(mode="wrap")
    def _without_nearby(self, usual: Serializer) -> dict[str, Any]:
        # Absent where patches are compared anywhere, so that such fits keep the keys that they had.
        document: dict[str, Any] = usual(self)
        if self.nearby is None:
            del document["nearby"]
        return document

    @model_validator(mode="before")
    @classmethod
    def _default_gives_way(cls, given: Any) -> Any:
        """Another budget replaces the default bank size, but not one that the user named."""
        if isinstance(given, dict) and any(given.get(name) is not None for name in _BUDGETS[1:]):
            return {"bank_size": None, **given}
        return given

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        named = [name for name in _BUDGETS if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(f"name one of {', '.join(_BUDGETS)}, not {' and '.join(named) or 'none'}")
        if self.neighbourhood % 2 == 0:
            raise ValueError(f"neighbourhood must be odd, so that it has a centre, got {self.neighbourhood}")
        if self.nearby is not None and not self.image_score.startswith("top"):
            raise ValueError(
                f"nearby goes with image_score top_or_all or top_mean: {self.image_score} asks for several "
                "neighbours, which a place may not have"
            )
        return self

    @property
    def budget(self) -> str:
        """The budget that decides the bank's size, as written in a recipe."""
        name = next(name for name in _BUDGETS if getattr(self, name) is not None)
        return f"{name}={getattr(self, name):g}"
