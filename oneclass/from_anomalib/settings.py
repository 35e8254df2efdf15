"""Settings of ``anomalib:<name>``; importable without torch and without anomalib."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from contracts.errors import ModelError, UsageError, nearest_match
from features.settings import PACKAGED_BACKBONES
from oneclass.from_anomalib.catalogue import Argument, ImageModel, image_model_named

# Shares that are in (0, 1].
_SHARES = {
    "coreset_sampling_ratio",
    "sampling_ratio",
    "pca_level",
    "pca_variance_ratio",
    "score_quantile",
    "topk_ratio",
    "max_ratio",
    "radius_quantile",
}
# Counts that are 1 or more.
_COUNTS = {
    "num_neighbors",
    "num_neighbours",
    "num_nearest_neighbors",
    "num_hard_negative_features",
    "n_features",
    "n_pca_components",
    "n_coupling_blocks",
    "coupling_blocks",
    "flow_steps",
    "latent_dim",
    "latent_vec_size",
    "memory_bank_size",
    "local_coreset_size",
    "max_training_points",
    "pooling_kernel_size",
    "fiber_batch_size",
    "decoder_depth",
    "inp_num",
    "k_image",
    "top_k",
}
_RATES = {"lr", "learning_rate"}

# Annotations that a YAML value can be checked against; others are left to the model's constructor.
_PLAIN_TYPES: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "int | None": int | None,
    "float | None": float | None,
    "str | None": str | None,
    "Sequence[str]": list[str],
    "list[str]": list[str],
    "list[str] | None": list[str] | None,
    "Sequence[int]": list[int],
    "list[int] | None": list[int] | None,
    "list[float] | None": list[float] | None,
}

# Layers of a ResNet → layers of EfficientNet-Lite with the same stride: 4, 8, 16, 32 pixels per cell.
_PACKAGED_LAYER = {"layer1": "blocks.1", "layer2": "blocks.2", "layer3": "blocks.4", "layer4": "blocks.6"}


class AnomalibSettings(BaseModel):
    """Settings of :class:`oneclass.from_anomalib.member.AnomalibMember`.

    Attributes:
        model: which image model; the member type ``anomalib:<name>`` stands for it.
        arguments: of the model's constructor, by name, such as ``{coreset_sampling_ratio: 0.05}``.
        weights: source of the weights that anomalib's model starts from: ``hub`` (downloaded), ``packaged``
            (ImageNet weights of a pip package; unless ``arguments`` say otherwise, the backbone is then
            ``tf_efficientnet_lite0`` and layers are those of the same strides) or ``random`` (only for
            experiments).
        image_size: side in pixels of the model's input; None means the working size. Resizing is antialiased
            in training and in the exported file.
        max_epochs: passes over the majority images, at most. Models that fix their own number, such as memory
            banks, keep it.
        batch_size: images per step; None means 32, or 1 for EfficientAd, which requires it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    weights: Literal["hub", "packaged", "random"] = "hub"
    image_size: int | None = Field(default=None, ge=32, le=1024)
    max_epochs: int = Field(default=20, ge=1)
    batch_size: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            model = image_model_named(self.model)
            for name, value in self.arguments.items():
                _check_argument(model, name, value)
            if self.weights == "packaged":
                _check_packaged(model, self.arguments)
        except (UsageError, ModelError) as error:
            raise ValueError(str(error)) from None
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def images_per_step(self) -> int:
        """``batch_size`` with the default resolved."""
        return self.batch_size or (1 if self.model == "efficient_ad" else 32)

    def constructor_arguments(self) -> dict[str, Any]:
        """Arguments of the model's constructor, including those that ``weights: packaged`` implies."""
        model = image_model_named(self.model)
        given = dict(self.arguments)
        if self.weights != "packaged":
            return given
        given.setdefault("backbone", PACKAGED_BACKBONES[0])
        for name in ("layer", "layers"):
            known = model.arguments.get(name)
            if known is not None and name not in given:
                given[name] = _packaged_layers(known.default)
        return given


def _packaged_layers(default: Any) -> Any:
    """The model's default layers, renamed to the packaged backbones' layers of the same strides."""
    if isinstance(default, str):
        return _PACKAGED_LAYER.get(default, default)
    return None if default is None else [_PACKAGED_LAYER.get(layer, layer) for layer in default]


def _check_packaged(model: ImageModel, arguments: dict[str, Any]) -> None:
    if "backbone" not in model.arguments:
        raise UsageError(
            f"weights: anomalib's {model.name} takes no backbone, so it cannot use packaged weights. "
            "Use weights: hub, or weights: random for an experiment"
        )
    backbone = arguments.get("backbone", PACKAGED_BACKBONES[0])
    if backbone not in PACKAGED_BACKBONES:
        raise UsageError(
            f"weights: no package has those of backbone '{backbone}'; there are packages for "
            f"{', '.join(PACKAGED_BACKBONES)}. Use one of these, or weights: hub"
        )


def _check_argument(model: ImageModel, name: str, value: Any) -> None:
    if name == "pre_trained" and model.has_pre_trained:
        raise UsageError("arguments.pre_trained: use the key weights (hub, packaged or random) instead")
    if name not in model.arguments:
        raise UsageError(
            f"arguments.{name}: anomalib's {model.name} takes no such argument."
            f"{nearest_match(name, model.arguments)} It takes {', '.join(model.arguments)}"
        )
    argument = model.arguments[name]
    expected = _PLAIN_TYPES.get(argument.annotation)
    if expected is not None:
        _check_type(argument, expected, value)
    problem = _bound_broken(name, value)
    if problem:
        raise UsageError(f"arguments.{name}: got {value!r}; {problem}")


def _check_type(argument: Argument, expected: Any, value: Any) -> None:
    try:
        # Strict: an integer may stand for a float, but neither text for a number nor a number for a bool.
        TypeAdapter(expected).validate_python(value, strict=True)
    except ValidationError:
        raise UsageError(
            f"arguments.{argument.name}: got {value!r}, but it must be {argument.annotation} (default: "
            f"{argument.default!r})"
        ) from None


def _bound_broken(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if name in _SHARES and not 0 < value <= 1:
        return "it must be above 0 and at most 1"
    if name in _COUNTS and value < 1:
        return "it must be 1 or more"
    if name in _RATES and value <= 0:
        return "it must be above 0"
    return ""
