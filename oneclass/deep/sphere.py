"""What Deep SVDD and Deep SAD share: a network without biases, a centre, and drawing the majority to it.

Sources: Ruff et al. 2018, "Deep One-Class Classification" (ICML,
https://proceedings.mlr.press/v80/ruff18a.html), equations 3 (soft boundary) and 4 (one-class); Ruff et al.
2020, "Deep Semi-Supervised Anomaly Detection" (ICLR, https://arxiv.org/abs/1906.02694), equation 7, for
rows that are labelled as the minority.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from contracts.errors import DataError, MemberCollapsedError
from contracts.files import Arrays
from contracts.member import FitContext, Member, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows, IndexArray, majority_positions
from features.apply import score_with_module
from features.tensors import BackboneFeatures
from features.training import batches_of, run_training
from oneclass.collapse import require_distinct_scores, require_spread_embeddings
from oneclass.settings import SphereSettings

_LEAST_CENTRE_COORDINATE = 0.1
_LEAST_CENTRE_NORM = 1e-3
# Keeps 1 / d finite where a minority row lies on the centre (the paper's code has the same number).
_EPSILON = 1e-6
_ORIGIN = "the centre is the origin, which all-zero weights reach"


class SphereNetwork(nn.Module):
    """The network phi with its centre c and radius R; subclasses say what it reads.

    Args:
        embedding_dim: d.
    """

    centre: Tensor
    radius: Tensor

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(embedding_dim))
        self.register_buffer("radius", torch.zeros(()))

    @abstractmethod
    def embed(self, inputs: Tensor) -> Tensor:
        """``[N, d]`` embeddings phi of inputs that :meth:`inputs_of` has prepared."""

    @abstractmethod
    def inputs_of(self, features: BackboneFeatures) -> Tensor:
        """What the network reads of a batch of images, ``[N, ...]``."""

    def squared_distance(self, inputs: Tensor) -> Tensor:
        """``[N]`` squared distances of the embeddings from the centre."""
        return (self.embed(inputs) - self.centre).square().sum(dim=1)

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, None]:
        """Return ``[N, 1]`` distances from the centre; there is no map."""
        return self.squared_distance(self.inputs_of(features)).sqrt()[:, None], None


class SphereBatch(NamedTuple):
    """What a training step sees of B rows.

    Attributes:
        inputs: ``[B, ...]`` as the network reads them.
        is_minority: ``[B]`` bool; labelled rows to be pushed away.
    """

    inputs: Tensor
    is_minority: Tensor


class SphereRows(Dataset[SphereBatch]):
    """Inputs with their labels, as whole batches.

    Args:
        inputs: a dataset whose ``__getitems__`` gives ``[B, ...]``.
        is_minority: ``[N]`` bool.
    """

    def __init__(self, inputs: Dataset[Tensor], is_minority: Tensor) -> None:
        self.inputs, self.is_minority = inputs, is_minority

    def __len__(self) -> int:
        return len(self.is_minority)

    def __getitems__(self, positions: list[int]) -> SphereBatch:
        """A batch of B rows; DataLoader asks for whole batches through this."""
        inputs: Tensor = self.inputs.__getitems__(positions)  # type: ignore[attr-defined]
        return SphereBatch(inputs, self.is_minority[positions])


@dataclass(frozen=True)
class SphereTask:
    """What a member brings to the common fit.

    Attributes:
        inputs: of the majority rows, then of the minority rows that it learns from.
        new_network: a network before any training; torch is seeded when it is called.
        pretrain: trains a new network on the majority rows before the centre is set.
    """

    inputs: Dataset[Tensor]
    new_network: Callable[[], SphereNetwork]
    pretrain: Callable[[SphereNetwork, int], None] = lambda _network, _seed: None


class SphereMember(Member):
    """A member whose score is the distance from the centre, 0 or more."""

    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"
    name: ClassVar[str]
    settings: SphereSettings
    _module: Any = None

    @abstractmethod
    def _task(self, rows: ImageRows, n_majority: int, context: FitContext) -> SphereTask:
        """Inputs and networks for ``rows``, of which the first ``n_majority`` are the majority's."""

    @abstractmethod
    def _empty_network(self, arrays: Arrays) -> SphereNetwork:
        """A network of the shapes of a saved state."""

    def _threads(self) -> AbstractContextManager[None]:
        """How many threads the fit runs on."""
        return nullcontext()

    def _minority_positions(self, rows: ImageRows) -> IndexArray:  # noqa: ARG002
        """Minority rows that the member learns from; none here."""
        return np.empty(0, dtype=np.int64)

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Draw the majority together; a collapsed network is initialised anew, then given up.

        Raises:
            DataError: no majority rows.
            MemberCollapsedError: every attempt collapsed.
        """
        majority = majority_positions(rows)
        if len(majority) == 0:
            raise DataError(f"{self.name}: no majority images to learn from. Check the labels.")
        minority = self._minority_positions(rows)
        with self._threads():
            task = self._task(rows.subset(np.concatenate([majority, minority])), len(majority), context)
            is_minority = torch.arange(len(majority) + len(minority)) >= len(majority)
            self._module = self._fit(SphereRows(task.inputs, is_minority), task, context)
        return self

    def _fit(self, rows: SphereRows, task: SphereTask, context: FitContext) -> SphereNetwork:
        for attempt in range(self.settings.attempts):
            with torch.random.fork_rng():
                torch.manual_seed(context.seed + attempt)
                network = task.new_network()
            self._require_no_trivial_solution(network)
            try:
                task.pretrain(network, context.seed + attempt)
                self._train(network, rows, attempt, context)
            except MemberCollapsedError as collapse:
                if attempt + 1 == self.settings.attempts:
                    raise MemberCollapsedError(
                        f"{collapse} {self.settings.attempts} initialisations were tried."
                    ) from collapse
                context.report(f"{collapse} Initialising anew.")
            else:
                return network.eval()
        raise AssertionError("attempts is at least 1")

    def _require_no_trivial_solution(self, network: SphereNetwork) -> None:
        """Refuse what every initialisation would collapse with (Ruff et al. 2018, propositions 1 and 2)."""
        biases = [name for name, _ in network.named_parameters() if name.endswith("bias")]
        if biases:
            raise MemberCollapsedError(
                f"{self.name}: collapsed, {len(biases)} layers have a bias ({biases[0]}), and biases alone "
                "reach the centre whatever the image."
            )
        if self.settings.centre == "origin":
            raise MemberCollapsedError(f"{self.name}: collapsed, {_ORIGIN}.")

    def _train(self, network: SphereNetwork, rows: SphereRows, attempt: int, context: FitContext) -> None:
        s = self.settings
        seed = context.seed + attempt
        majority = torch.utils.data.Subset(rows, torch.nonzero(~rows.is_minority)[:, 0].tolist())
        in_order = batches_of(majority, s.batch_size, seed, shuffle=False)
        network.centre.copy_(initial_centre(network, in_order))
        if float(network.centre.norm()) < _LEAST_CENTRE_NORM:
            raise MemberCollapsedError(f"{self.name}: {_ORIGIN}.")
        run_training(
            _SphereTraining(network, s, attempt * s.epochs, context.record),
            batches_of(rows, s.batch_size, seed),
            max_epochs=s.epochs,
            device=context.device,
        )
        embeddings = embeddings_of(network, in_order)
        distances = (embeddings - network.centre).square().sum(dim=1).sqrt()
        require_distinct_scores(self.name, distances[:, None].numpy())
        require_spread_embeddings(self.name, embeddings.numpy(), network.centre.numpy())
        network.radius.copy_(torch.quantile(distances, 1.0 - s.nu))

    def score(self, rows: ImageRows) -> FloatArray:
        """``[N, 1]`` distances."""
        return score_with_module(self.to_module(), rows, self.needs)

    def to_module(self) -> Any:
        """The fitted network."""
        if self._module is None:
            raise DataError(f"{self.name}: not fitted yet.")
        return self._module

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Weights, centre, radius and input statistics."""
        return {name: value.cpu().numpy() for name, value in self.to_module().state_dict().items()}, {}

    def restore(self, arrays: Arrays, meta: dict[str, Any]) -> Self:  # noqa: ARG002
        """Take over a saved state."""
        network = self._empty_network(arrays)
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        self._module = network.eval()
        return self


class _SphereTraining(LightningModule):
    """The three objectives, for Lightning's loop.

    Args:
        network: trained in place.
        settings: which objective, and how.
        epochs_before: of earlier initialisations.
        record: receives each epoch's mean loss.
    """

    def __init__(
        self,
        network: SphereNetwork,
        settings: SphereSettings,
        epochs_before: int,
        record: Callable[[str, float, int], None],
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.eta: float = getattr(settings, "eta", 1.0)
        self.epochs_before = epochs_before
        self.record = record
        self._squared_of_epoch: list[Tensor] = []
        self._losses_of_epoch: list[Tensor] = []

    def on_train_epoch_start(self) -> None:
        self.network.train()

    def training_step(self, batch: SphereBatch, batch_index: int) -> Tensor:  # noqa: ARG002
        squared = self.network.squared_distance(batch.inputs)
        self._squared_of_epoch.append(squared.detach()[~batch.is_minority])
        if self.settings.objective == "one_class" or self.current_epoch < self.settings.warm_up_epochs:
            # Equation 7: a labelled minority row counts eta / d. Without any this is equation 4.
            pushed = self.eta / (squared + _EPSILON)
            loss = torch.where(batch.is_minority, pushed, squared).mean()
        else:
            r_squared = self.network.radius.square()
            loss = r_squared + (squared - r_squared).clamp_min(0.0).mean() / self.settings.nu
        self._losses_of_epoch.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        # R solves its own minimum: the (1 - nu) quantile of the distances (as the paper sets it).
        distances = torch.cat(self._squared_of_epoch).sqrt()
        self.network.radius.copy_(torch.quantile(distances.float(), 1.0 - self.settings.nu))
        self._squared_of_epoch.clear()
        # A new initialisation goes on counting, so that a collapsed attempt stays in sight.
        step = self.epochs_before + self.current_epoch + 1
        self.record("training_loss", float(torch.stack(self._losses_of_epoch).mean()), step)
        self._losses_of_epoch.clear()

    def configure_optimizers(self) -> Any:
        s = self.settings
        optimiser = torch.optim.Adam(
            self.network.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay
        )
        if not s.fine_tune_share:
            return optimiser
        turn = max(1, round(s.epochs * (1.0 - s.fine_tune_share)))
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [turn], gamma=0.1)
        return {"optimizer": optimiser, "lr_scheduler": schedule}


def embeddings_of(network: SphereNetwork, loader: DataLoader[SphereBatch]) -> Tensor:
    """``[N, d]`` embeddings in evaluation mode, in the loader's order."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network.embed(batch.inputs) for batch in loader])


def initial_centre(network: SphereNetwork, loader: DataLoader[SphereBatch]) -> Tensor:
    """Mean embedding of a first pass, with small coordinates pushed away from 0, as the paper does."""
    centre = embeddings_of(network, loader).mean(dim=0)
    small = centre.abs() < _LEAST_CENTRE_COORDINATE
    return torch.where(small, torch.where(centre < 0, -1.0, 1.0) * _LEAST_CENTRE_COORDINATE, centre)
