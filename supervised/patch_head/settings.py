"""Settings of the patch-wise head; importable without torch."""

from __future__ import annotations

from pydantic import Field

from supervised.settings import Settings


class PatchHeadSettings(Settings):
    """Settings of :class:`supervised.patch_head.member.PatchHead`.

    Attributes:
        bank_patches: normal patches, drawn at random, that each patch is compared with.
        softness: how many of them count as near: the temperature of their weights, as a share of the typical
            squared distance to the nearest patch of another image. Towards 0 only the nearest counts.
        hidden: units of the hidden layer.
        dropout: share of the hidden units that are switched off for each patch that a step learns from.
        top_share: share of an image's patches, those with the highest logits, whose mean is its logit.
        networks: that are trained from different starts and averaged.
        epochs: passes over the rows of all classes but the last.
        least_steps: steps at least, whatever the number of epochs; small sets need more passes.
        batch_size: images per step.
        minority_share: of the last class in a batch, at most an equal share; the other classes share the rest
            equally.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        max_rows: rows at most of all classes but the last together, drawn at random if there are more. It
            bounds memory and time.
    """

    bank_patches: int = Field(default=500, ge=1)
    softness: float = Field(default=0.15, gt=0.0)
    hidden: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)
    top_share: float = Field(default=0.05, gt=0.0, le=1.0)
    networks: int = Field(default=8, ge=1)
    epochs: int = Field(default=8, ge=1)
    least_steps: int = Field(default=100, ge=1)
    batch_size: int = Field(default=64, ge=2)
    minority_share: float = Field(default=0.25, gt=0.0, lt=1.0)
    learning_rate: float = Field(default=3e-3, gt=0.0)
    weight_decay: float = Field(default=1.0, ge=0.0)
    max_rows: int = Field(default=2_000, ge=1)
