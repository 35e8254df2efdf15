"""The fitted form of a head on pooled features, and what it is fitted on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from contracts.rows import IndexArray, LabelArray, MaskArray
from features.tensors import BackboneFeatures
from supervised.cosine import CosineHead
from supervised.labels import score_columns
from supervised.samplers import CountArray
from supervised.settings import CnnSettings


class HeadModule(nn.Module):
    """Standardisation and head.

    Attributes:
        mean: ``[D]`` of the training rows.
        std: ``[D]`` that features are divided by; see :mod:`features.spread`.

    Args:
        settings: width of the hidden layer.
        pooled_dim: D.
        n_classes: K.
    """

    mean: Tensor
    std: Tensor
    correction: Tensor

    def __init__(self, settings: CnnSettings, pooled_dim: int, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.register_buffer("mean", torch.zeros(pooled_dim))
        self.register_buffer("std", torch.ones(pooled_dim))
        # Brings the logits back to the training rows' class shares; see supervised.objective.PriorLedger.
        self.register_buffer("correction", torch.zeros(n_classes))
        if settings.classifier == "cosine":
            self.head: nn.Module = CosineHead(pooled_dim, n_classes)
        elif settings.hidden:
            self.head = nn.Sequential(
                nn.Linear(pooled_dim, settings.hidden), nn.GELU(), nn.Linear(settings.hidden, n_classes)
            )
        else:
            linear = nn.Linear(pooled_dim, n_classes)
            # The objective is convex, so its optimum does not depend on the start; zeros are a near one.
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
            self.head = linear

    def standardise(self, pooled: Tensor) -> Tensor:
        """Pooled features with mean 0 over the training rows, divided by :attr:`std`."""
        return (pooled - self.mean) / self.std

    def as_linear(self) -> tuple[Tensor, Tensor]:
        """``[K, D]`` weights and ``[K]`` biases of a linear head, for features before standardisation."""
        linear: Any = self.head
        weight = linear.weight.detach() / self.std
        bias: Tensor = linear.bias.detach() - weight @ self.mean
        return weight, bias

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, None]:
        """Return score columns; there is no map."""
        return score_columns(self.head(self.standardise(features.pooled)) + self.correction), None


class Views(NamedTuple):
    """Features of M images and of a view of each, ``[M, D]``, and their ``[M]`` group numbers."""

    images: Tensor
    views: Tensor
    groups: IndexArray

    def standardised(self, module: HeadModule) -> Views:
        """The same as the module standardises features."""
        images, views = (module.standardise(each.to(module.mean.device)) for each in self[:2])
        return Views(images, views, self.groups)

    def mean_change(self, head: nn.Module) -> Tensor:
        """Mean over images of the squared change of the logits, summed over classes.

        What all logits have in common does not enter: no probability depends on it.
        """
        change: Tensor = head(self.views) - head(self.images)
        return (change - change.mean(dim=1, keepdim=True)).square().sum(dim=1).mean()


class HeadRows(NamedTuple):
    """N rows to fit a head on.

    Attributes:
        pooled: ``[N, D]`` float32.
        labels: ``[N]`` class index.
        is_copy: ``[N]`` whether a row is an augmented copy.
        groups: ``[N]`` group numbers.
        views: of rows among these, or None.
    """

    pooled: Tensor
    labels: LabelArray
    is_copy: MaskArray
    groups: IndexArray
    views: Views | None

    def without_groups(self, groups: IndexArray) -> HeadRows:
        """The rows, and the views, of other groups."""
        kept, views = ~np.isin(self.groups, groups), self.views
        if views is not None:
            seen = torch.from_numpy(~np.isin(views.groups, groups))
            views = Views(views.images[seen], views.views[seen], views.groups[seen.numpy()])
            views = views if len(views.groups) else None
        at = torch.from_numpy(kept).to(self.pooled.device)
        return HeadRows(self.pooled[at], self.labels[kept], self.is_copy[kept], self.groups[kept], views)


class Ready(NamedTuple):
    """A head at its start, and what it is to be fitted on.

    Attributes:
        module: with the standardisation of the real rows.
        standardised: ``[N, D]`` of all rows, synthetic ones behind.
        labels: ``[N]`` class index.
        trained: ``[K]`` real rows of each class.
        views: standardised, or None.
    """

    module: HeadModule
    standardised: Tensor
    labels: LabelArray
    trained: CountArray
    views: Views | None

    def in_own_span(self, settings: CnnSettings) -> tuple[Ready, Tensor]:
        """The same linear head with one input for each row, where there are fewer rows than features.

        A ridge keeps the weights within the span of the rows (and views) that they are fitted on, so that
        their coordinates in it give the same optimum, several times as fast.

        Args:
            settings: of the head.

        Returns:
            The head at zero, and the ``[D, R]`` orthonormal basis that standardised features are to be
            multiplied by.
        """
        rows = [self.standardised, *(() if self.views is None else self.views[:2])]
        basis = torch.linalg.qr(torch.cat(rows).T).Q
        module = HeadModule(settings, basis.shape[1], self.module.n_classes).to(basis.device)
        views = self.views
        if views is not None:
            views = Views(views.images @ basis, views.views @ basis, views.groups)
        return Ready(module, self.standardised @ basis, self.labels, self.trained, views), basis


@torch.no_grad()
def log_losses(module: HeadModule, standardised: Tensor, labels: LabelArray) -> npt.NDArray[np.float64]:
    """``[N]`` log loss of ``[N, D]`` standardised rows, at the class shares of the training rows."""
    logits = (module.head(standardised) + module.correction).double().cpu()
    return np.asarray(nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="none").numpy())
