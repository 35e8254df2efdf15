"""What Deep SVDD and Deep SAD share: a network without biases, trained to pull the majority to a centre.

Sources: Ruff et al. 2018, "Deep One-Class Classification" (ICML,
https://proceedings.mlr.press/v80/ruff18a.html), equations 3 (soft boundary) and 4 (one-class); Ruff et al.
2020, "Deep Semi-Supervised Anomaly Detection" (ICLR, https://arxiv.org/abs/1906.02694), equation 7, for
labelled minority rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from contracts.errors import DataError, MemberCollapsedError
from contracts.member import FitContext, MemberKind, ScoreMeaning
from contracts.rows import FloatArray, ImageRows, IndexArray, MaskArray, majority_positions
from features.apply import score_with_module
from features.member import ModuleMember
from features.tensors import BackboneFeatures
from features.training import batches_of, run_training
from oneclass.collapse import require_distinct_scores, require_spread_embeddings
from oneclass.deep.rows import SomeLeftOut, SphereBatch, SphereRows
from oneclass.deep.settings import SphereSettings
from oneclass.majority import families_of, held_out_parts, reference_positions

# As in the paper's code. Zero weights reach a coordinate of the centre at 0, so the network could learn it
# without looking at the image.
_LEAST_CENTRE_COORDINATE = 0.1
_LEAST_CENTRE_NORM = 1e-3
# Logarithms of scores of different images lie farther apart; those of the same image differ by rounding.
_LEAST_LOG_SPREAD = 1e-5
# Keeps 1 / d finite for a minority row at the centre; the paper's code uses the same number.
_EPSILON = 1e-6
_LEAST_FOR_SPREAD = 3
# What is left out of further networks, by which the scale of the scores is set: tenths, because with fifths
# the others are drawn so much closer to the centre that new images seem less odd than they are.
_LEFT_OUT_PARTS = 10
_MOST_PARTS = 3
_ENOUGH_LEFT_OUT = 30
# Keeps the logarithm of a distance finite.
_LEAST_DISTANCE = 1e-12
_ORIGIN = "the centre is the origin, which all-zero weights reach"


class SphereNetwork(nn.Module):
    """The network phi with its centre c and radius R; subclasses define what it reads.

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
        """``[N, d]`` embeddings phi of inputs that :meth:`inputs_of` prepared."""

    @abstractmethod
    def inputs_of(self, features: BackboneFeatures) -> Tensor:
        """The network's input ``[N, ...]`` for a batch of images."""

    def squared_distance(self, inputs: Tensor) -> Tensor:
        """``[N]`` squared distances of the embeddings from the centre."""
        return (self.embed(inputs) - self.centre).square().sum(dim=1)

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, None]:
        """Return ``[N, 1]`` distances from the centre; there is no map."""
        return self.squared_distance(self.inputs_of(features)).sqrt()[:, None], None


NetworkT = TypeVar("NetworkT", bound=SphereNetwork)


@dataclass(frozen=True)
class SphereTask(Generic[NetworkT]):
    """The parts of the fit that differ between members.

    Attributes:
        inputs: of the majority rows, followed by those of the minority rows to learn from.
        new_network: returns an untrained network; torch is seeded when it is called.
        pretrain: trains a new network before the centre is set (network, batches of majority rows, seed).
    """

    inputs: Dataset[Tensor]
    new_network: Callable[[], NetworkT]
    pretrain: Callable[[NetworkT, DataLoader[SphereBatch | None], int], None] = lambda *_: None


class SphereMember(ModuleMember[NetworkT], Generic[NetworkT]):
    """A member whose raw score is the distance from the centre, 0 or more.

    Training draws its own images to the centre, so new ones lie farther from it: by one standard deviation of
    the logarithm and more. How much farther is measured by further networks, trained by the same steps
    without a tenth of the images each: how far these lie from the centre there, compared with where they
    lie in the whole network, is what not having learnt from an image adds. The scale of the scores is that of
    the whole network's training images, moved and widened by that.
    """

    kind: ClassVar[MemberKind] = "oneclass"
    score_meaning: ClassVar[ScoreMeaning] = "anomaly_score"
    settings: SphereSettings

    @abstractmethod
    def _task(self, rows: ImageRows, n_majority: int, context: FitContext) -> SphereTask[NetworkT]:
        """Inputs and networks for ``rows``; the first ``n_majority`` of them are the majority's."""

    def _threads(self) -> AbstractContextManager[None]:
        """A context that sets how many threads the fit runs on; here it changes nothing."""
        return nullcontext()

    def _minority_positions(self, rows: ImageRows) -> IndexArray:  # noqa: ARG002
        """Minority rows that the member learns from; none here."""
        return np.empty(0, dtype=np.int64)

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Pull the majority together; start again from new weights if the network collapses.

        Raises:
            DataError: no majority rows.
            MemberCollapsedError: every attempt collapsed, or all images have the same score.
        """
        majority = majority_positions(rows)
        if len(majority) == 0:
            raise DataError(f"{self.name}: no majority images to learn from. Check the labels.")
        minority = self._minority_positions(rows)
        used = rows.subset(np.concatenate([majority, minority]))
        with self._threads():
            network = self._fit_on(used, len(majority), np.zeros(len(used), dtype=np.bool_), context)
            reference = self._reference(network, used, len(majority), context)
        self._module = network
        self._standardise(reference)
        return self

    def _fit_on(
        self, rows: ImageRows, n_majority: int, is_left_out: MaskArray, context: FitContext
    ) -> NetworkT:
        """A network of the rows that are not left out; of ``rows``, the first are the majority's."""
        is_minority = np.arange(len(rows)) >= n_majority
        of_rows = is_minority[~is_left_out]
        task = self._task(rows.subset(np.flatnonzero(~is_left_out)), int((~of_rows).sum()), context)
        given = SphereRows(task.inputs, torch.from_numpy(of_rows))
        return self._fit(SomeLeftOut(given, is_left_out), n_majority, task, context)

    def _reference(
        self, network: NetworkT, rows: ImageRows, n_majority: int, context: FitContext
    ) -> FloatArray:
        """``[R, 1]`` raw scores that normal images would have if the network had not learnt from them."""
        images = np.flatnonzero(~rows.is_copy[:n_majority]).astype(np.int64)
        shown = images[reference_positions(len(images))]
        log_scores = self._log_scores(network, rows.subset(shown))
        # Views differ where images may not: a network can learn their noise from images that are all alike.
        if len(shown) > 1 and np.ptp(log_scores) < _LEAST_LOG_SPREAD:
            raise MemberCollapsedError(
                f"{self.name}: collapsed, {len(shown)} majority images have the same score."
            )
        seen, unseen = [], []
        for is_left_out in held_out_parts(
            families_of(rows), context.seed, _LEFT_OUT_PARTS, enough=_ENOUGH_LEFT_OUT, most=_MOST_PARTS
        ):
            out = is_left_out[shown]
            if (~out).sum() < _LEAST_FOR_SPREAD or not out.any():
                continue
            try:
                # Nothing of it is kept or reported.
                quiet = FitContext(context.seed, context.device)
                of_others = self._fit_on(rows, n_majority, is_left_out, quiet)
            except MemberCollapsedError as collapse:
                context.report(f"{collapse} It was made for the scale of the scores, which does without it.")
                continue
            seen.append(_relative_to_others(log_scores, out))
            unseen.append(_relative_to_others(self._log_scores(of_others, rows.subset(shown)), out))
        if unseen:
            log_scores = _as_if_unseen(log_scores, np.concatenate(seen), np.concatenate(unseen))
        return np.exp(log_scores)[:, None].astype(np.float32)

    def _log_scores(self, network: NetworkT, rows: ImageRows) -> npt.NDArray[np.float64]:
        """``[N]`` logarithms of a network's raw scores."""
        scores = score_with_module(network, rows, self.needs)
        return np.log(scores[:, 0].astype(np.float64) + _LEAST_DISTANCE)

    def _fit(
        self, rows: SomeLeftOut, n_majority: int, task: SphereTask[NetworkT], context: FitContext
    ) -> NetworkT:
        majority = Subset(rows, range(n_majority))
        for attempt in range(self.settings.attempts):
            with torch.random.fork_rng():
                # Another seed per attempt, or the same collapse would follow.
                torch.manual_seed(context.seed + attempt)
                network = task.new_network()
            self._require_no_trivial_solution(network)
            try:
                seed = context.seed + attempt
                task.pretrain(network, batches_of(majority, self.settings.batch_size, seed), seed)
                self._train(network, rows, attempt, context)
            except MemberCollapsedError as collapse:
                if attempt + 1 == self.settings.attempts:
                    raise MemberCollapsedError(
                        f"{collapse} {self.settings.attempts} initialisations were tried."
                    ) from collapse
                context.report(f"{collapse} Trying other initial weights.")
            else:
                return network.eval()
        raise AssertionError("attempts is at least 1")

    def _require_no_trivial_solution(self, network: SphereNetwork) -> None:
        """Refuse what makes every initialisation collapse (Ruff et al. 2018, propositions 1 and 2)."""
        biases = [name for name, _ in network.named_parameters() if name.endswith("bias")]
        if biases:
            raise MemberCollapsedError(
                f"{self.name}: collapsed, {len(biases)} layers have a bias ({biases[0]}), and biases alone "
                "reach the centre, whatever the image."
            )
        if self.settings.centre == "origin":
            raise MemberCollapsedError(f"{self.name}: collapsed, {_ORIGIN}.")

    def _train(self, network: SphereNetwork, rows: SomeLeftOut, attempt: int, context: FitContext) -> None:
        s = self.settings
        seed = context.seed + attempt
        given = rows.rows
        majority = Subset(given, torch.nonzero(~given.is_minority)[:, 0].tolist())
        # The centre is the majority's alone: minority rows must not pull it towards them.
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
        # After training: scores that do not differ mean that the network collapsed.
        distances = (embeddings - network.centre).square().sum(dim=1).sqrt()
        require_distinct_scores(self.name, distances[:, None].numpy())
        require_spread_embeddings(self.name, embeddings.numpy(), network.centre.numpy())
        # The radius of the last epoch is from weights that still moved; this one is of the final network.
        network.radius.copy_(torch.quantile(distances, 1.0 - s.nu))


def _relative_to_others(
    log_scores: npt.NDArray[np.float64], is_left_out: MaskArray
) -> npt.NDArray[np.float64]:
    """Scores of what was left out, in standard deviations of the others' scores from their mean."""
    others = log_scores[~is_left_out]
    relative: npt.NDArray[np.float64] = (log_scores[is_left_out] - others.mean()) / others.std()
    return relative


def _as_if_unseen(
    log_scores: npt.NDArray[np.float64], seen: npt.NDArray[np.float64], unseen: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Move and widen scores of training images as leaving images out moved and widened theirs.

    Pairs cost far fewer networks than unseen images alone would: how odd an image is, which differs much more
    between images than what learning it does, is on both sides and cancels.

    Args:
        log_scores: ``[R]`` by the network that learnt from all images.
        seen: ``[P]`` by the same, of images that other networks lack, relative to the images that they have.
        unseen: ``[P]`` by these other networks, of the same images.
    """
    # What learning one of n images does is in proportion to 1 / n, and the others have so many images fewer.
    moved = (1.0 - 1.0 / _LEFT_OUT_PARTS) * float((unseen - seen).mean())
    # A single pair has no spread to compare.
    widened = float(unseen.std() / seen.std()) if len(seen) > 1 and seen.std() > 0 else 1.0
    mean = log_scores.mean()
    as_if: npt.NDArray[np.float64] = mean + moved * log_scores.std() + widened * (log_scores - mean)
    return as_if


class _SphereTraining(LightningModule):
    """The three objectives, for Lightning's loop.

    Args:
        network: trained in place.
        settings: objective and optimiser.
        epochs_before: epochs of earlier attempts.
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
            # Deep SAD, equation 7: a labelled minority row adds eta / d. Without any, it is Deep SVDD's
            # equation 4.
            # Computed for all rows and chosen by where, which keeps the step free of data-dependent shapes.
            pushed = self.eta / (squared + _EPSILON)
            loss = torch.where(batch.is_minority, pushed, squared).mean()
        else:
            # Equation 3: R^2 + 1 / (nu n) sum of max(0, d - R^2). The radius is a buffer without gradient;
            # it is set in closed form after each epoch.
            r_squared = self.network.radius.square()
            loss = r_squared + (squared - r_squared).clamp_min(0.0).mean() / self.settings.nu
        self._losses_of_epoch.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        # For fixed weights, equation 3 is least at the (1 - nu) quantile of the distances, as in the paper.
        distances = torch.cat(self._squared_of_epoch).sqrt()
        self.network.radius.copy_(torch.quantile(distances.float(), 1.0 - self.settings.nu))
        self._squared_of_epoch.clear()
        # Another attempt continues the count, so that the curve shows the collapsed one, too.
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
        # The paper's two stages: searching, then fine-tuning at a tenth of the learning rate.
        turn = max(1, round(s.epochs * (1.0 - s.fine_tune_share)))
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [turn], gamma=0.1)
        return {"optimizer": optimiser, "lr_scheduler": schedule}


def embeddings_of(network: SphereNetwork, loader: DataLoader[SphereBatch]) -> Tensor:
    """``[N, d]`` embeddings in evaluation mode, in the loader's order."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network.embed(batch.inputs) for batch in loader])


def initial_centre(network: SphereNetwork, loader: DataLoader[SphereBatch]) -> Tensor:
    """Mean embedding of a first pass, with small coordinates moved away from 0, as in the paper's code."""
    centre = embeddings_of(network, loader).mean(dim=0)
    small = centre.abs() < _LEAST_CENTRE_COORDINATE
    return torch.where(small, torch.where(centre < 0, -1.0, 1.0) * _LEAST_CENTRE_COORDINATE, centre)
