"""Settings of the supervised members; importable without torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from features.settings import BackboneSettings
from supervised.synthetic.settings import SyntheticSettings
from supervised.whole_cnn.representation_settings import RetrainSettings, SimclrSettings

LossName = Literal[
    "cross_entropy",
    "weighted_cross_entropy",
    "focal",
    "asymmetric_focal",
    "ldam",
    "logit_adjustment",
    "vs",
    "soft_f1",
    "auc_margin",
    "partial_auc",
]
SamplerName = Literal[
    "none",
    "undersample",
    "undersample_each_epoch",
    "oversample",
    "square_root",
    "class_balanced",
    "progressive",
]


def _kind_of_ridge(value: object) -> str:
    return "word[auto]" if isinstance(value, str) else "ridge[number]"


# A discriminator, so that a number out of bounds is not refused for not being a word. The brackets keep the
# tags out of messages.
Ridge = Annotated[
    Annotated[float, Field(ge=0.0), Tag("ridge[number]")] | Annotated[Literal["auto"], Tag("word[auto]")],
    Discriminator(_kind_of_ridge),
]
"""A ridge, or ``auto`` for one that each fit chooses by itself."""


class Settings(BaseModel):
    """Base of the settings models here: frozen, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LossSettings(Settings):
    """Which loss, with which parameters; parameters of other losses are ignored.

    Attributes:
        loss: see :mod:`supervised.losses` and :class:`supervised.objective.Objective`.
        weights: ``weighted_cross_entropy`` and deferred ``ldam``: ``inverse`` frequency, ``effective``
            number of samples, or one number per class in class order, minority last, such as ``[1, 10]``.
        effective_beta: of the effective number; beyond 1 / (1 - beta) rows, further rows add little.
        smoothing: cross-entropy forms: share of the target spread over all classes.
        gamma: focal forms: focusing exponent; the asymmetric form does not apply it to the minority.
        ldam_margin: ``ldam``: margin of the rarest class, in logit units.
        deferred_until: ``tune: full``: share of the epochs without class weights (deferred re-weighting).
            None means 0.8 for ``ldam`` and 0 (weights from the beginning) for ``weighted_cross_entropy``.
            A linear head reaches the weighted optimum from any start, so heads always use the weights.
        tau: ``logit_adjustment`` and ``vs``: strength of the adjustment; 1 is the balanced softmax.
        vs_gamma: ``vs``: exponent of the multiplicative factors.
        auc_margin: AUC forms: the difference that the scores of a pair should have, in probability.
        temperature: ``partial_auc``: a small one considers only the highest-ranked majority rows.
    """

    loss: LossName = "cross_entropy"
    weights: Literal["inverse", "effective"] | tuple[Annotated[float, Field(gt=0.0)], ...] = "inverse"
    effective_beta: float = Field(default=0.999, ge=0.0, lt=1.0)
    smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    gamma: float = Field(default=2.0, ge=0.0)
    ldam_margin: float = Field(default=0.5, gt=0.0)
    deferred_until: float | None = Field(default=None, ge=0.0, le=1.0)
    tau: float = Field(default=1.0, ge=0.0)
    vs_gamma: float = Field(default=0.15, ge=0.0)
    auc_margin: float = Field(default=1.0, gt=0.0)
    temperature: float = Field(default=1.0, gt=0.0)


class SamplerSettings(Settings):
    """Which training rows an epoch draws; see :mod:`supervised.samplers`.

    Attributes:
        kind: ``none`` draws every row once. ``undersample`` keeps the same choice of majority rows in all
            epochs; ``undersample_each_epoch`` makes a new one in each. ``oversample`` repeats rows of the
            small classes. ``square_root`` draws classes in the ratio of the square roots of their sizes,
            ``class_balanced`` equally often; ``progressive`` moves from the classes' own shares to equal
            ones.
        cap: under- and oversampling: target ratio of the minority's size to the largest class's. 1 is 1:1;
            0.5 leaves two majority rows per minority row.
        rounds: ``undersample_each_epoch`` with ``tune: head``: number of heads to average, each fitted on a
            draw of its own.
    """

    kind: SamplerName = "none"
    cap: float = Field(default=1.0, gt=0.0, le=1.0)
    rounds: int = Field(default=10, ge=1, le=100)


class AugmentSettings(Settings):
    """Random augmentation of training images; 0, False or ``none`` switches a change off.

    Which changes are safe depends on the data: a shift or a crop can move a small defect out of the image, a
    flip swaps left and right, and a rotation turns a chest that is always upright.

    Attributes:
        flips: which reflections do not change the meaning of an image; ``none`` if left and right matter.
        rotation: up to this many degrees either way.
        zoom: scale between 1 - zoom and 1 + zoom.
        shift: up to this share of the side, in both directions.
        shear: up to this tangent of the shearing angle, either way.
        erasing: probability that a random rectangle (2 to 33 % of the area) is blanked (Zhong 2020).
        augmix: mix the image with randomly transformed versions of itself (Hendrycks 2020).
        mix: ``mixup`` blends pairs of images and their losses (Zhang 2018), ``cutmix`` pastes a rectangle
            of one into the other (Yun 2019).
        mix_alpha: parameter of the Beta distribution that the shares are drawn from.
    """

    flips: Literal["none", "horizontal", "both"] = "horizontal"
    rotation: float = Field(default=0.0, ge=0.0, le=180.0)
    zoom: float = Field(default=0.0, ge=0.0, le=0.5)
    shift: float = Field(default=0.0, ge=0.0, le=0.5)
    shear: float = Field(default=0.0, ge=0.0, le=1.0)
    erasing: float = Field(default=0.0, ge=0.0, le=1.0)
    augmix: bool = False
    mix: Literal["none", "mixup", "cutmix"] = "none"
    mix_alpha: float = Field(default=1.0, gt=0.0)


class OptimiserSettings(Settings):
    """How weights are updated.

    Attributes:
        kind: ``adamw``, ``adam`` (weight decay as a plain ridge) or ``sgd`` with Nesterov momentum.
        learning_rate: at its peak.
        weight_decay: of the optimiser.
        momentum: ``sgd``.
        schedule: of the learning rate over the epochs: ``cosine`` to 0, ``step`` (a tenth after 60 % and
            again after 80 %), or ``constant``.
        warmup: epochs in which the learning rate rises linearly to its peak.
        ema: decay per step of an exponential moving average of the weights, which is then validated and kept;
            0 is off.
        sam: radius rho of sharpness-aware minimisation (Foret 2021), two passes per step; 0 is off.
        accumulate: batches whose gradients are summed for one step, to train on large images in little
            memory.
        precision: ``bf16`` is mixed precision with float32 weights; ``auto`` is bf16 on a GPU and fp32 on a
            CPU, where only some models gain from bf16 (small plain ones, about twofold).
    """

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(default=3e-4, gt=0.0)
    weight_decay: float = Field(default=0.05, ge=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup: float = Field(default=0.0, ge=0.0)
    ema: float = Field(default=0.0, ge=0.0, lt=1.0)
    sam: float = Field(default=0.0, ge=0.0)
    accumulate: int = Field(default=1, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @model_validator(mode="after")
    def _sam_takes_single_batches(self) -> Self:
        if self.sam and self.accumulate > 1:
            raise ValueError("sam works on single batches and cannot accumulate; raise batch_size instead")
        return self


class CnnSettings(LossSettings):
    """Settings of a CNN member: its loss, its rows, and its training.

    Attributes:
        tune: ``head`` trains a head on the frozen backbone's pooled features (seconds); ``full`` trains or
            fine-tunes a whole CNN (minutes); ``linear`` trains a linear head on the features of a frozen
            CNN at its own image size, which ``simclr`` may have pre-trained (linear evaluation).
        sampler: how often each row is drawn.
        synthetic: synthetic rows of the smaller classes, added to the training rows before the sampler draws:
            features with ``tune: head``, images with ``tune: full``; None makes none.
        hidden: ``head``: units of one hidden layer; 0 is a linear head.
        classifier: ``head``: ``linear``, or ``cosine``: scaled cosines to one direction per class, which
            start at the class means and are drawn to them (:mod:`supervised.cosine`).
        l2: ``head`` and ``linear``: ridge on the summed loss, on standardised features: scikit-learn's C is
            ``2 / l2`` for two classes (two opposite weight vectors share the ridge) and ``1 / l2`` for more.
            ``auto`` chooses it by cross-fitting within the rows of each fit (:mod:`supervised.ridge`).
        max_iterations: ``head`` and ``linear``: at most this many L-BFGS iterations.
        network: ``full`` and ``linear``: the CNN to train, by any backbone's name, also ``small_cnn``; None
            means the recipe's backbone.
        image_size: ``full`` and ``linear``: side that the working image is resized to, in pixels.
        gray: ``full`` and ``linear``: drop the colours.
        epochs: ``full``: largest number of epochs.
        patience: ``full``: epochs without a lower validation loss before stopping.
        validation_share: ``full``: share of the training rows set aside for early stopping; 0 trains on
            all rows for all epochs and keeps the last epoch's weights.
        batch_size: ``full``: images per batch.
        batch_norm: ``full``: ``frozen`` keeps the statistics of pre-training, ``trained`` follows the
            batches; ``auto`` is frozen for pre-trained weights and trained for random ones.
        augment: ``full``: random changes to training images.
        optimiser: ``full``: how weights are updated.
        simclr: ``full`` and ``linear``: pre-training on the training images without labels; None for none.
        retrain: ``full``: how the classifier is refitted after training.
    """

    tune: Literal["head", "full", "linear"] = "head"
    sampler: SamplerSettings = SamplerSettings()
    synthetic: SyntheticSettings | None = None
    hidden: int = Field(default=0, ge=0)
    classifier: Literal["linear", "cosine"] = "linear"
    l2: Ridge = 100.0
    max_iterations: int = Field(default=300, ge=1)
    network: BackboneSettings | None = None
    image_size: int = Field(default=128, ge=16, le=600)
    gray: bool = False
    epochs: int = Field(default=12, ge=1)
    patience: int = Field(default=5, ge=1)
    validation_share: float = Field(default=0.15, ge=0.0, lt=0.5)
    batch_size: int = Field(default=32, ge=2)
    batch_norm: Literal["auto", "frozen", "trained"] = "auto"
    augment: AugmentSettings = AugmentSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    simclr: SimclrSettings | None = None
    retrain: RetrainSettings = RetrainSettings()

    @property
    def is_plain(self) -> bool:
        """Whether this is plain cross-entropy, without any technique that is judged against that."""
        return (
            self.loss == "cross_entropy"
            and self.smoothing == 0.0
            and self.sampler.kind == "none"
            and self.synthetic is None
            and self.simclr is None
            and self.retrain.method == "none"
            and self.augment.mix == "none"
        )

    @property
    def gives_probabilities(self) -> bool:
        """Whether logits, once corrected, answer exactly for the class shares of the training rows."""
        return (
            self.loss in {"cross_entropy", "weighted_cross_entropy", "logit_adjustment"}
            and self.smoothing == 0.0
            and self.synthetic is None
        )

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> Self:
        idle = sorted(key for key in self.model_fields_set & set(_USED_BY) if self.tune not in _USED_BY[key])
        if idle:
            raise ValueError(
                f"{', '.join(idle)}: no effect with tune={self.tune}; leave out, or set "
                f"tune={' or '.join(_USED_BY[idle[0]])}"
            )
        if self.retrain.chooses_tau and not self.validation_share:
            raise ValueError(
                "retrain.tau is to be chosen on rows set aside, but validation_share=0 sets none aside; "
                "give retrain.tau or a validation_share"
            )
        space = "images" if self.tune == "full" else "features"
        if self.synthetic is not None and self.synthetic.space != space:
            raise ValueError(
                f"synthetic.space={self.synthetic.space} does not work with tune={self.tune}, which learns "
                f"from {space}; set synthetic.space={space}, "
                f"or tune={'head' if self.tune == 'full' else 'full'}"
            )
        if self.l2 == "auto" and not self.gives_probabilities:
            raise ValueError(
                "l2=auto is chosen by log loss, which takes probabilities at the training rows' class "
                "shares; other losses, smoothing and synthetic rows give none. Give l2 a number, or set "
                "loss to cross_entropy, weighted_cross_entropy or logit_adjustment"
            )
        if self.tune == "head" and self.hidden and self.sampler.kind == "undersample_each_epoch":
            raise ValueError(
                "sampler.kind=undersample_each_epoch averages the weights of linear heads, which is not "
                "possible with a hidden layer; set hidden=0"
            )
        if self.classifier == "cosine" and (
            self.hidden or self.sampler.kind == "undersample_each_epoch" or self.synthetic is not None
        ):
            raise ValueError(
                "classifier=cosine is one layer that starts at the means of the images themselves; leave out "
                "hidden, synthetic and sampler.kind=undersample_each_epoch, or set classifier=linear"
            )
        return self


_USED_BY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("hidden", "classifier"), ("head",)),
    **dict.fromkeys(("l2", "max_iterations"), ("head", "linear")),
    **dict.fromkeys(("network", "image_size", "gray", "simclr"), ("full", "linear")),
    **dict.fromkeys(
        (
            "epochs",
            "patience",
            "validation_share",
            "batch_size",
            "batch_norm",
            "augment",
            "optimiser",
            "retrain",
        ),
        ("full",),
    ),
}
