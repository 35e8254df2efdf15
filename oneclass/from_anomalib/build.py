"""Building one of anomalib's models, with weights from where the settings say and from nowhere else.

Its constructors fetch weights by themselves, some of them whatever their arguments say. So while one runs,
the two functions that fetch for it, timm's and torchvision's, are ours: they note what is wanted
pre-trained and give it the packaged, the random or, by request, the hub's weights. A restored member's
weights come from its own file, and no hub is asked again.
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
from oneclass.from_anomalib.catalogue import PREFIX, facts_of
from oneclass.from_anomalib.settings import AnomalibSettings

WeightsSource = Literal["hub", "packaged", "random"]
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

_AS_IT_IS: Normalisation = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class BuiltModel:
    """One of anomalib's models before training.

    Attributes:
        lightning: its ``AnomalibModule``, which trains; ``lightning.model`` is the network that scores.
        normalisation: mean and standard deviation per channel in 0…1 of what the network is to be given.
    """

    lightning: Any
    normalisation: Normalisation


def build_model(settings: AnomalibSettings, image_size: int, source: WeightsSource, seed: int) -> BuiltModel:
    """Construct the model of the settings, without its post-processing, evaluation and pictures.

    Args:
        settings: which model, with which arguments.
        image_size: side in pixels of the images that it will see; some models are built for one size.
        source: where pre-trained weights come from.
        seed: of whatever is random in it.

    Raises:
        UsageError: arguments that the model refuses, or packaged weights that do not exist.
        ModelError: weights that cannot be had, or anything else that the constructor needs and lacks.
    """
    from torchvision.transforms.v2 import Resize

    with warnings.catch_warnings():
        # What anomalib says of its own old parts while it is imported.
        warnings.simplefilter("ignore")
        import anomalib.models.image
        from anomalib.pre_processing import PreProcessor

    facts = facts_of(settings.model)
    where = f"{PREFIX}{facts.name}"
    model_class = getattr(anomalib.models.image, facts.class_name)
    arguments: dict[str, Any] = settings.constructor_arguments()
    if facts.has_pre_trained:
        # The model's own choice of which networks start pre-trained, a teacher but not its student.
        arguments["pre_trained"] = True
    # Models that are built for one size read it here. Our images have it already, so nothing is resized.
    arguments["pre_processor"] = PreProcessor(transform=Resize((image_size, image_size)))
    arguments |= {"post_processor": False, "evaluator": False, "visualizer": False}
    if facts.name == "vlm_ad":
        # The one constructor without these.
        arguments = dict(settings.arguments)
    try:
        with isolated_randomness(seed), weights_from(source, where), no_downloads(model_class, where):
            lightning = model_class(**arguments)
    except OutnumberedError:
        raise
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise UsageError(
            f"{where}: anomalib does not build it so ({_reason(error)}). Change its arguments or its "
            "image_size."
        ) from error
    except Exception as error:
        raise ModelError(
            f"{where}: anomalib could not build it ({_reason(error)}). It needs what this machine does not "
            "have; leave it out of the recipe."
        ) from error
    return BuiltModel(lightning, _normalisation_of(settings, model_class))


def _normalisation_of(settings: AnomalibSettings, model_class: Any) -> Normalisation:
    """That of the packaged backbone, else what the model's own pre-processing has, which may be none."""
    from torchvision.transforms.v2 import Normalize

    if settings.weights == "packaged":
        name = settings.constructor_arguments()["backbone"]
        return normalisation(timm.create_model(name, pretrained=False))
    if settings.model == "vlm_ad":
        return _AS_IT_IS
    own = model_class.configure_pre_processor().transform
    steps = getattr(own, "transforms", [own])
    found = [step for step in steps if isinstance(step, Normalize)]
    return (tuple(found[0].mean), tuple(found[0].std)) if found else _AS_IT_IS


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's generators, which anomalib draws from, and put them back after."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def weights_from(source: WeightsSource, where: str) -> Iterator[None]:
    """Let timm and torchvision take the weights that are wanted pre-trained from ``source``.

    Args:
        source: see :class:`oneclass.from_anomalib.settings.AnomalibSettings`.
        where: what to name in messages.
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
            raise UsageError(f"{where}: no package carries the weights of torchvision's {name}. Use hub.")
        if source == "random":
            return torchvision.models.get_model(name, weights=None).state_dict()
        try:
            return get_state_dict(weights, *given, **named)
        except Exception as error:
            raise _no_hub(where, name, error) from error

    library.create_model, WeightsEnum.get_state_dict = create_model, state_dict
    try:
        yield
    finally:
        library.create_model, WeightsEnum.get_state_dict = create, get_state_dict


@contextmanager
def no_downloads(model_class: type, where: str) -> Iterator[None]:
    """Refuse what some models fetch beside weights of a backbone: textures, other images, whole networks.

    Args:
        model_class: whose module fetches.
        where: what to name in messages.
    """
    module: Any = sys.modules[model_class.__module__]
    fetch = getattr(module, "download_and_extract", None)
    if fetch is None:
        yield
        return

    def refuse(root: Any, info: Any) -> None:
        raise ModelError(
            f"{where}: anomalib wants to fetch {info.name} from {info.url} into {root}. Put it there "
            "yourself, or leave the member out of the recipe."
        )

    module.download_and_extract = refuse
    try:
        yield
    finally:
        module.download_and_extract = fetch


def _load_packaged(model: nn.Module, name: str, where: str) -> None:
    """Load what the model has of the packaged weights; extractors of features lack the last layers."""
    if name not in PACKAGED_BACKBONES:
        raise UsageError(
            f"{where}: it starts from pre-trained {name}, and no package carries weights of that, only of "
            f"{', '.join(PACKAGED_BACKBONES)}. Use weights: hub, or weights: random for an experiment."
        )
    packaged = packaged_state(name)
    own = model.state_dict()
    missing = [key for key in own if key not in packaged]
    if missing:
        raise ModelError(f"{where}: packaged weights of {name} lack {missing[0]}. Use weights: hub.")
    model.load_state_dict({key: packaged[key] for key in own})


def _no_hub(where: str, name: str, error: Exception) -> ModelError:
    return ModelError(
        f"{where}: weights of {name} could not be had from the hub ({_reason(error)}). Use weights: packaged "
        "where the model takes a backbone, weights: random for an experiment, or a machine with a network."
    )


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
