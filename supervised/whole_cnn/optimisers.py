"""Optimisers by name, learning-rate schedules, and sharpness-aware minimisation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from supervised.settings import OptimiserSettings


def build_optimiser(settings: OptimiserSettings, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser for a module's trainable weights.

    Vectors (biases and normalisation parameters) get no weight decay: pulling them to 0 would not make the
    function simpler.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    base: torch.optim.Optimizer
    if settings.kind == "sgd":
        nesterov = settings.momentum > 0
        base = torch.optim.SGD(
            groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=nesterov
        )
    elif settings.kind == "adam":
        base = torch.optim.Adam(groups, lr=settings.learning_rate)
    else:
        base = torch.optim.AdamW(groups, lr=settings.learning_rate)
    return SharpnessAware(base, settings.sam) if settings.sam else base


def learning_rate_factor(settings: OptimiserSettings, epoch: float, epochs: int) -> float:
    """Learning rate as a share of its peak.

    Args:
        settings: schedule and warm-up.
        epoch: epochs done, a fraction in the middle of one.
        epochs: their total number.
    """
    # Starts at 1 / (warmup + 1) rather than 0, or the first step would be lost.
    if epoch < settings.warmup:
        return (epoch + 1.0) / (settings.warmup + 1.0)
    progress = min(1.0, epoch / epochs)
    if settings.schedule == "cosine":
        return 0.5 * (1.0 + float(torch.cos(torch.tensor(progress * torch.pi, dtype=torch.double))))
    if settings.schedule == "step":
        return 1.0 if progress < 0.6 else 0.1 if progress < 0.8 else 0.01
    return 1.0


class SharpnessAware(torch.optim.Optimizer):
    """Sharpness-aware minimisation around any optimiser (Foret et al. 2021, https://arxiv.org/abs/2010.01412).

    Each step climbs to w + rho g / |g|, takes the gradient there, goes back to w and lets the base
    optimiser step with that gradient. The closure is called twice.

    Args:
        base: optimiser whose step is taken; its parameter groups, and so its learning rate, are shared.
        rho: radius of the climb, in the weights' units.
    """

    def __init__(self, base: torch.optim.Optimizer, rho: float) -> None:
        self.base, self.rho = base, rho
        super().__init__(base.param_groups, base.defaults)
        # The same list for both: a schedule sets the learning rate in the groups of the outer optimiser.
        self.param_groups = base.param_groups

    def _parameters(self) -> Iterable[Tensor]:
        return (p for group in self.param_groups for p in group["params"] if p.grad is not None)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: clears gradients, computes the loss and its gradients, and returns the loss.
        """
        if closure is None:
            raise TypeError("SharpnessAware.step needs the closure that computes loss and gradients")
        with torch.enable_grad():
            loss = closure()
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in self._parameters() if p.grad is not None]).norm()
            # Kept, because the second pass overwrites the gradients that the ascent was computed from.
            climbed = []
            for p in self._parameters():
                ascent = p.grad * (self.rho / (norm + 1e-12)) if p.grad is not None else torch.zeros_like(p)
                p.add_(ascent)
                climbed.append((p, ascent))
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            for p, ascent in climbed:
                p.sub_(ascent)
        self.base.step()
        return loss
