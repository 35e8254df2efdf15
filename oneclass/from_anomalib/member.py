"""The member ``anomalib:<name>``: trained by anomalib, scored and exported by us."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from contracts.errors import ModelError
from contracts.files import Arrays
from contracts.member import FitContext, MemberInput, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageArray, ImageRows, IndexArray
from features.member import ModuleMember
from features.settings import BackboneSettings
from features.tensors import BackboneFeatures
from oneclass.collapse import require_distinct_scores
from oneclass.from_anomalib.build import build_model
from oneclass.from_anomalib.catalogue import PREFIX
from oneclass.from_anomalib.module import Preparation, scorer
from oneclass.from_anomalib.settings import AnomalibSettings
from oneclass.from_anomalib.state import network_state, put_state
from oneclass.from_anomalib.training import train
from oneclass.majority import majority_rows

# Nearest-neighbour models need memory for (patches of a batch) x (bank), so batches are small.
_SCORED_AT_A_TIME = 8
_CHECKED = 64
_COMPARED = 4
_SIZES = ("image_size", "working_size", "normalisation")


class AnomalibMember(ModuleMember[nn.Module]):
    """An image model of anomalib on the majority's pixels, without anomalib's own scaling and threshold.

    Raw scores are the network's, and may be negative.
    """

    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"
    needs: ClassVar[frozenset[MemberInput]] = frozenset({"images"})
    settings: AnomalibSettings

    def __init__(self, settings: AnomalibSettings, backbone: BackboneSettings | None = None) -> None:
        # The recipe's backbone is not used: anomalib's models bring networks of their own.
        super().__init__(settings, backbone or BackboneSettings())
        self.name = f"{PREFIX}{settings.model}"
        self._sizes: dict[str, Any] = {}
        # A few majority images on which a saved state is tested before it is handed out.
        self._sample: ImageArray | None = None

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Train on the majority rows through anomalib's Engine.

        Raises:
            DataError: no majority rows.
            UsageError, ModelError: anomalib cannot build or train it.
            MemberCollapsedError: the trained model gives all images the same score.
        """
        normal = majority_rows(self.name, rows)
        working_size = rows.shapes.image_size
        image_size = self.settings.image_size or working_size
        built = build_model(self.settings, image_size, self.settings.weights, context.seed)
        preparation = Preparation(image_size, working_size, built.normalisation)
        train(built, self.settings, normal, preparation, seed=context.seed, device=context.device)
        self._sizes = {
            "image_size": image_size,
            "working_size": working_size,
            "normalisation": [list(values) for values in built.normalisation],
        }
        self._module = scorer(preparation, built.lightning.model)
        checked = np.arange(0, len(normal), max(1, len(normal) // _CHECKED), dtype=np.int64)
        pixels = normal.images(checked)
        # Mirrored, because a memory bank is at distance 0 from the images it was made of.
        mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
        reference = self._score_pixels(self._module, mirrored)
        require_distinct_scores(self.name, reference)
        # The scale, too, is that of the mirrored images: nearly normal, and new to the network. Held-out ones
        # would cost further trainings of minutes each.
        self._standardise(reference, may_be_negative=bool((reference < 0).any()))
        self._sample = pixels[:_COMPARED]
        return self

    def score(self, rows: ImageRows) -> FloatArray:
        """``[N, 1]`` standardised anomaly scores."""
        module = self.to_module()
        parts = [
            self._score_pixels(module, rows.images(positions))
            for positions in _slices(len(rows), _SCORED_AT_A_TIME)
        ]
        return np.concatenate(parts)

    def _score_pixels(self, module: nn.Module, pixels: ImageArray) -> FloatArray:
        scores = []
        nothing = torch.empty(0)
        with torch.inference_mode():
            for positions in _slices(len(pixels), _SCORED_AT_A_TIME):
                images = torch.from_numpy(pixels[positions]).permute(0, 3, 1, 2).float().contiguous()
                scores.append(module(BackboneFeatures(images=images, pooled=nothing, patches=nothing))[0])
        return torch.cat(scores).float().numpy()

    def _saved(self, module: nn.Module) -> tuple[Arrays, dict[str, Any]]:
        """All that the network holds; a network restored from it is first tested on a few images.

        Raises:
            ModelError: the restored model does not repeat the trained one's scores.
        """
        network: Any = module.get_submodule("network")
        arrays, plain = network_state(network)
        meta = {**self._sizes, "plain": plain}
        if self._sample is not None:
            restored = AnomalibMember(self.settings).restore(arrays, meta)
            before = self._score_pixels(module, self._sample)
            after = self._score_pixels(restored.raw_module(), self._sample)
            # Some models keep what they learnt where no state dict finds it; a saved member that scores
            # differently must not be kept.
            if not np.allclose(before, after, rtol=1e-4, atol=1e-6):
                raise ModelError(
                    f"{self.name}: part of the trained model cannot be saved: after restoring, its score is "
                    f"{after[0, 0]:.4g} instead of {before[0, 0]:.4g}. Leave it out of the recipe."
                )
        return arrays, meta

    def _empty_module(self, arrays: Arrays, meta: dict[str, Any]) -> nn.Module:
        """The network with the saved numbers already in it; no weights are downloaded again."""
        built = build_model(self.settings, meta["image_size"], "random", seed=0)
        put_state(built.lightning.model, arrays, meta["plain"], self.name)
        mean, std = (tuple(values) for values in meta["normalisation"])
        preparation = Preparation(meta["image_size"], meta["working_size"], (mean, std))
        network = built.lightning.model.eval().requires_grad_(False)
        return scorer(preparation, network)

    def _load(self, arrays: Arrays, meta: dict[str, Any]) -> nn.Module:
        self._sizes = {key: meta[key] for key in _SIZES}
        # Memory banks change their size in training, so nothing is left for load_state_dict to do.
        return self._empty_module(arrays, meta)


def _slices(n: int, size: int) -> list[IndexArray]:
    return [np.arange(start, min(start + size, n), dtype=np.int64) for start in range(0, n, size)]
