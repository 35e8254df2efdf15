"""Settings of synthetic minority rows; importable without torch."""

from __future__ import annotations

from itertools import product
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

AutoencoderName = Literal["ae", "vae", "wae"]
SamplerName = Literal["smote", "adasyn"]


class SyntheticSettings(BaseModel):
    """How synthetic minority rows are made; parameters of a model or penalty that is not chosen are ignored.

    The published DeepSMOTE (Dablain et al. 2021, https://arxiv.org/abs/2105.02340) is ``model: ae``,
    ``sampler: smote``, ``penalty: true``, ``width: 64``, ``epochs: 200``. Our defaults of ``epochs`` and
    ``width`` are smaller, for two processor cores.

    Attributes:
        space: ``features`` resamples the backbone's pooled features, for heads (``tune: head``); ``images``
            resamples codes of an autoencoder and decodes them, for whole CNNs (``tune: full``).
        sampler: ``smote`` draws uniformly from a class's rows; ``adasyn`` draws more where rows of other
            classes are near.
        neighbours: k, the number of neighbours of the same class to choose from. A class of n rows has at
            most n - 1.
        cap: size that every smaller class grows to, as a share of the largest class; 1 is balanced. A class
            that is larger already stays as it is.
        model: ``images``: ``ae`` is a plain autoencoder, ``vae`` a variational one (new codes lie between its
            posterior means), ``wae`` a Wasserstein autoencoder with the MMD penalty.
        penalty: ``images``: add the permutation penalty; the next four keys configure it.
        penalty_weight: factor of the penalty, relative to the reconstruction.
        permutation: permute the codes of a class before they are decoded. False leaves a second
            reconstruction, which is what the published code amounts to.
        class_balanced: draw the penalty's class uniformly over the classes. False draws it in proportion to
            its rows.
        encoder_gradient: the penalty also trains the encoder. False stops its gradient at the codes, as the
            published code does.
        latent_dim: ``images``: dimensions of a code.
        width: ``images``: channels of the first convolution, doubled at every further one. Published: 64. A
            step at 32 takes three times as long as at 16 and reduces the error less in the same time.
        epochs: ``images``: passes over the training rows. Published: 200. Few rows need more passes.
        batch_size: ``images``: rows per step.
        learning_rate: ``images``: of Adam.
        beta: ``vae``: factor of the KL divergence, relative to the squared error summed over an image with
            pixel values from -1 to 1.
        mmd: ``wae``: lambda, factor of the MMD, relative to the same sum.
        image_size: ``images``: side at which the autoencoder works, in pixels; a multiple of 16.
        gray: ``images``: one channel. Generated images are RGB with equal channels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: Literal["features", "images"] = "images"
    sampler: SamplerName = "smote"
    neighbours: int = Field(default=5, ge=1)
    cap: float = Field(default=1.0, gt=0.0, le=1.0)
    model: AutoencoderName = "ae"
    penalty: bool = False
    penalty_weight: float = Field(default=1.0, gt=0.0)
    permutation: bool = True
    class_balanced: bool = True
    encoder_gradient: bool = True
    latent_dim: int = Field(default=300, ge=2)
    width: int = Field(default=16, ge=4)
    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=100, ge=2)
    learning_rate: float = Field(default=2e-4, gt=0.0)
    beta: float = Field(default=0.1, ge=0.0)
    mmd: float = Field(default=10.0, ge=0.0)
    image_size: int = Field(default=32, ge=32, le=256, multiple_of=16)
    gray: bool = False

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> Self:
        idle = sorted(self.model_fields_set - _OF_BOTH_SPACES)
        if self.space == "features" and idle:
            raise ValueError(
                f"{', '.join(idle)}: no effect with space=features; leave out, or set space=images"
            )
        return self


_OF_BOTH_SPACES = {"space", "sampler", "neighbours", "cap"}


def ten_synthetic_models() -> dict[str, SyntheticSettings]:
    """Name → settings of the ten that ``recipes/deep_smote_ten.yaml`` compares.

    Three autoencoders, two samplers, with and without the penalty make twelve. VAE and WAE with both ADASYN
    and the penalty are left out, because each of these parts is compared without the other.
    """
    ten: dict[str, SyntheticSettings] = {}
    models: tuple[AutoencoderName, ...] = ("ae", "vae", "wae")
    samplers: tuple[SamplerName, ...] = ("smote", "adasyn")
    for model, sampler, penalty in product(models, samplers, (False, True)):
        if model != "ae" and sampler == "adasyn" and penalty:
            continue
        name = f"{model}_{sampler}" + ("_penalty" if penalty else "")
        ten[name] = SyntheticSettings(model=model, sampler=sampler, penalty=penalty)
    return ten
