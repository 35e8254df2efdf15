"""Settings of a backbone: name, size, weights and layers; importable without torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator
from pydantic import SerializerFunctionWrapHandler as Serializer

# Increase it whenever the same settings give different features, so that neither old caches nor members
# fitted on them are used again.
FEATURES_VERSION = 2

PACKAGED_BACKBONES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
"""Backbones whose ImageNet weights are in a pip package, so that they need no hub."""

UNTRAINED_BACKBONES = {"small_cnn": 32, "small_cnn_16": 16, "small_cnn_64": 64}
"""Our small CNN by name → channels of its first stage. There are no pre-trained weights of it, so they are
random unless a file is named. Half the width takes a third of the time."""

MOST_PIXELS = 4096
"""Largest side of a working image: one takes 200 MB as the network's input."""

_AS_EVER = (("tiles", 1), ("precision", "fp32"), ("deployment", "here"), ("int8_graph", None))


class BackboneSettings(BaseModel):
    """A frozen backbone and the layers that features are taken from.

    Attributes:
        name: any timm model, ``torchvision:NAME`` for one of torchvision's, or one of ``small_cnn``,
            ``small_cnn_16``, ``small_cnn_64``.
        weights: ``packaged`` (from a pip package), ``hub`` (downloaded by timm or torchvision),
            ``random`` (only for experiments), or the path of a ``.safetensors`` or ``.pth`` file.
            None means packaged if there is a package, random for a small CNN, and hub otherwise.
        image_size: side in pixels of the square image that the network sees.
        tiles: tiles per side of the working image, which has ``tiles`` times that side: each goes through the
            network by itself, and their features are put together (:mod:`features.tensors`). For small
            defects in large pictures. Time and memory grow with its square.
        patch_strides: strides, in pixels per cell, of the layers that patch features are made of.
        patch_grid: whether patches lie on the grid of the ``coarsest`` of these layers (fast) or of the
            ``finest`` (small defects, four times the work).
        pooled_strides: strides, in pixels per cell, of the layers whose spatial means enter the pooled
            features, in addition to the backbone's pre-logits.
        patch_blocks: in place of ``patch_strides``, layers by number: a transformer's blocks from 0 on, and
            below 0 from the last one. All its blocks have one stride, so that strides tell none apart. None:
            for such a network those at a half and three quarters of its depth, which see more of textures and
            small defects than the last ones.
        pooled_blocks: likewise in place of ``pooled_strides``.
        precision: what its convolutions compute in, in training and in the exported file alike: ``fp32``,
            ``int8``, or ``auto`` for whichever is faster on the machine that trains. Until training has
            quantised it, such a backbone is the float32 one.
        deployment: where the exported file is to score, for ``precision: auto``: ``here``, on machines like
            the one that trains; ``vnni``, on processors with int8 instructions (AVX-512 VNNI, AVX-VNNI, AMX);
            ``openvino`` or ``gpu``, which do not compute int8 files as they were fitted.
        int8_graph: digest of the graph that training quantised; filled in by training, not by hand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "tf_efficientnet_lite0"
    weights: str | None = None
    image_size: int = Field(default=224, ge=16, le=1024)
    tiles: int = Field(default=1, ge=1, le=8)
    patch_strides: Annotated[tuple[int, ...], Field(min_length=1)] = (8, 16)
    patch_grid: Literal["coarsest", "finest"] = "coarsest"
    pooled_strides: tuple[int, ...] = (16, 32)
    patch_blocks: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    pooled_blocks: tuple[int, ...] | None = None
    precision: Literal["fp32", "int8", "auto"] = "fp32"
    deployment: Literal["here", "vnni", "openvino", "gpu"] = "here"
    int8_graph: str | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_as_ever(self, usual: Serializer) -> dict[str, Any]:
        # Absent where they change nothing, so that keys are those of before there were such settings.
        document: dict[str, Any] = usual(self)
        for name, as_ever in _AS_EVER:
            if document[name] == as_ever:
                del document[name]
        return document

    @model_validator(mode="after")
    def _stated_where_it_counts(self) -> Self:
        # A quantised backbone has been decided; it keeps what was stated.
        if self.deployment != "here" and self.precision != "auto" and self.int8_graph is None:
            raise ValueError(
                f"deployment: {self.deployment} decides nothing with precision: {self.precision}. Take "
                "precision: auto, or leave deployment out"
            )
        return self

    @model_validator(mode="after")
    def _not_too_large(self) -> Self:
        if self.working_size > MOST_PIXELS:
            raise ValueError(
                f"{self.tiles} tiles of {self.image_size} px are {self.working_size} px per side, more than "
                f"{MOST_PIXELS}. Take fewer or smaller tiles"
            )
        return self

    @model_validator(mode="after")
    def _strides_or_blocks(self) -> Self:
        if self.states_strides and (self.patch_blocks is not None or self.pooled_blocks is not None):
            raise ValueError(
                "both strides and blocks choose layers. Give patch_strides and pooled_strides, or "
                "patch_blocks and pooled_blocks"
            )
        return self

    @property
    def working_size(self) -> int:
        """Side of the square working image in pixels, which images are decoded to."""
        return self.tiles * self.image_size

    @property
    def in_float32(self) -> BackboneSettings:
        """The same backbone, not quantised."""
        return self.model_copy(update={"precision": "fp32", "deployment": "here", "int8_graph": None})

    @property
    def states_strides(self) -> bool:
        """Whether layers are chosen by other strides than the default's."""
        fields = type(self).model_fields
        return any(
            getattr(self, name) != fields[name].default for name in ("patch_strides", "pooled_strides")
        )

    @property
    def weights_source(self) -> str:
        """``weights`` with the default resolved."""
        if self.weights is not None:
            return self.weights
        if self.name in UNTRAINED_BACKBONES:
            return "random"
        return "packaged" if self.name in PACKAGED_BACKBONES else "hub"

    def identity(self) -> dict[str, Any]:
        """Everything that decides the features, for cache keys and digests."""
        settings = self.model_dump(mode="json")
        # Where the file will score decides which graph is taken, and that graph is named by its digest.
        settings.pop("deployment", None)
        # Absent where none are chosen, so that such backbones keep the identity that they had.
        for blocks in ("patch_blocks", "pooled_blocks"):
            if settings[blocks] is None:
                del settings[blocks]
        if self.int8_graph is None:
            # Whatever was asked for, its features are those of float32.
            settings.pop("precision", None)
        return {**settings, "weights": self.weights_source, "features_version": FEATURES_VERSION}
