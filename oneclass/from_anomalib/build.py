"""Building one of anomalib's models, with weights only from the source that the settings name.

Anomalib's constructors download weights by themselves, some of them whatever their arguments say. So while a
constructor runs, the two functions that load weights for it, timm's and torchvision's, are replaced by ours:
where pre-trained weights are requested, they supply packaged, random or, by request, the hub's weights. A
restored member takes its weights from its own file and never asks a hub.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import timm
import torch
import torchvision
from torch import nn
from torchvision.models._api import WeightsEnum

from contracts.errors import ModelError, OutnumberedError, UsageError
from features.settings import PACKAGED_BACKBONES
from features.weights import normalisation, packaged_state
from oneclass.from_anomalib.catalogue import PREFIX, image_model_named
from oneclass.from_anomalib.settings import AnomalibSettings

WeightsSource = Literal["hub", "packaged", "random"]
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

_UNCHANGED: Normalisation = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class BuiltModel:
    """One of anomalib's models before training.

    Attributes:
        lightning: its ``AnomalibModule``, which trains; ``lightning.model`` is the network that scores.
        normalisation: mean and standard deviation per channel, in 0…1, for the network's input.
    """

    lightning: Any
    normalisation: Normalisation


def build_model(settings: AnomalibSettings, image_size: int, source: WeightsSource, seed: int) -> BuiltModel:
    """Construct the model of the settings, without its post-processing, evaluation and visualisation.

    Args:
        settings: which model, with which arguments.
        image_size: side in pixels of the images that it will see; some models are built for one size.
        source: where pre-trained weights come from.
        seed: of everything random in it.

    Raises:
        UsageError: the model refuses its arguments, or there are no packaged weights for it.
        ModelError: weights, or anything else that the constructor needs, are not available.
    """
    from torchvision.transforms.v2 import Resize

    with warnings.catch_warnings():
        # Deprecation warnings of anomalib about its own dependencies.
        warnings.simplefilter("ignore")
        import anomalib.models.image
        from anomalib.pre_processing import PreProcessor

    model = image_model_named(settings.model)
    where = f"{PREFIX}{model.name}"
    model_class = getattr(anomalib.models.image, model.class_name)
    arguments: dict[str, Any] = settings.constructor_arguments()
    if model.has_pre_trained:
        # The model itself decides which of its networks start pre-trained: a teacher, but not its student.
        arguments["pre_trained"] = True
    # Models built for one size read it from here. Our images already have that size and are not resized.
    arguments["pre_processor"] = PreProcessor(transform=Resize((image_size, image_size)))
    arguments |= {"post_processor": False, "evaluator": False, "visualizer": False}
    if model.name == "vlm_ad":
        # The only constructor that does not take these arguments.
        arguments = dict(settings.arguments)
    try:
        with isolated_randomness(seed), weights_from(source, where), no_downloads(model_class, where):
            lightning = model_class(**arguments)
    except OutnumberedError:
        raise
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise UsageError(
            f"{where}: anomalib refuses these arguments ({_reason(error)}). Change arguments or image_size."
        ) from error
    except Exception as error:
        raise ModelError(
            f"{where}: anomalib could not build it ({_reason(error)}). It needs something that this machine "
            "does not have. Leave it out of the recipe."
        ) from error
    return BuiltModel(lightning, _normalisation_of(settings, model_class))


def _normalisation_of(settings: AnomalibSettings, model_class: Any) -> Normalisation:
    """The packaged backbone's, else that of the model's own pre-processing, which may have none."""
    from torchvision.transforms.v2 import Normalize

    if settings.weights == "packaged":
        name = settings.constructor_arguments()["backbone"]
        return normalisation(timm.create_model(name, pretrained=False))
    if settings.model == "vlm_ad":
        return _UNCHANGED
    own = model_class.configure_pre_processor().transform
    steps = getattr(own, "transforms", [own])
    found = [step for step in steps if isinstance(step, Normalize)]
    return (tuple(found[0].mean), tuple(found[0].std)) if found else _UNCHANGED


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's generators, all of which anomalib uses, and restore them after."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        random.seed(seed)
        # NumPy's legacy generator takes 32 bits.
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def weights_from(source: WeightsSource, where: str) -> Iterator[None]:
    """While active, timm and torchvision load pre-trained weights from ``source``.

    Args:
        source: see :class:`oneclass.from_anomalib.settings.AnomalibSettings`.
        where: the member type, for messages.
    """
    library: Any = timm
    create, get_state_dict = library.create_model, WeightsEnum.get_state_dict

    def create_model(model_name: str, pretrained: bool = False, **given: Any) -> nn.Module:
        if not pretrained or source == "random":
            model: nn.Module = create(model_name, pretrained=False, **given)
            return model
        if source == "packaged":
            model = create(model_name, pretrained=False, **given)
            _load_packaged(model, model_name, where)
            return model
        try:
            model = create(model_name, pretrained=True, **given)
        except Exception as error:  # hub clients raise their own, OSError, RuntimeError, ValueError ...
            raise _no_hub(where, model_name, error) from error
        return model

    def state_dict(weights: Any, *given: Any, **named: Any) -> Any:
        name = type(weights).__name__.removesuffix("_Weights").lower()
        if source == "packaged":
            raise UsageError(
                f"{where}: no package has weights of torchvision's {name}. Use weights: hub, or weights: "
                "random for an experiment."
            )
        if source == "random":
            return torchvision.models.get_model(name, weights=None).state_dict()
        try:
            return get_state_dict(weights, *given, **named)
        except Exception as error:
            raise _no_hub(where, name, error) from error

    # Patched rather than passed: constructors call these two functions themselves and take no other source.
    library.create_model, WeightsEnum.get_state_dict = create_model, state_dict
    try:
        yield
    finally:
        library.create_model, WeightsEnum.get_state_dict = create, get_state_dict


@contextmanager
def no_downloads(model_class: type, where: str) -> Iterator[None]:
    """Refuse other downloads that some models start: textures, images, whole networks.

    Args:
        model_class: the model, in whose module the downloading function is replaced.
        where: the member type, for messages.
    """
    module: Any = sys.modules[model_class.__module__]
    fetch = getattr(module, "download_and_extract", None)
    if fetch is None:
        yield
        return

    def refuse(root: Any, info: Any) -> None:
        raise ModelError(
            f"{where}: anomalib wants to download {info.name} from {info.url} into {root}. Put it there "
            "yourself, or leave the member out of the recipe."
        )

    module.download_and_extract = refuse
    try:
        yield
    finally:
        module.download_and_extract = fetch


def _load_packaged(model: nn.Module, name: str, where: str) -> None:
    """Load the packaged weights that the model has layers for; feature extractors lack the last layers."""
    if name not in PACKAGED_BACKBONES:
        raise UsageError(
            f"{where}: it starts from a pre-trained {name}, but packages have weights only of "
            f"{', '.join(PACKAGED_BACKBONES)}. Use weights: hub, or weights: random for an experiment."
        )
    packaged = packaged_state(name)
    own = model.state_dict()
    missing = [key for key in own if key not in packaged]
    if missing:
        raise ModelError(f"{where}: the packaged weights of {name} lack {missing[0]}. Use weights: hub.")
    model.load_state_dict({key: packaged[key] for key in own})


def _no_hub(where: str, name: str, error: Exception) -> ModelError:
    return ModelError(
        f"{where}: the hub did not deliver the weights of {name} ({_reason(error)}). Use weights: packaged "
        "if the model takes a backbone, weights: random for an experiment, or a machine with network access."
    )


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
