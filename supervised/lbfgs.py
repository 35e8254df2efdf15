"""Minimising an objective over all rows at once by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Tolerance(NamedTuple):
    """When a minimum is near enough.

    Attributes:
        gradient: largest entry of the gradient.
        change: of the loss, and of the parameters, in one iteration.
    """

    gradient: float
    change: float


EXACT = Tolerance(gradient=1e-6, change=1e-10)


def minimise(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    max_iterations: int,
    tolerance: Tolerance = EXACT,
) -> None:
    """Minimise ``loss()`` over ``parameters`` in place; deterministic, without a step size to tune.

    Args:
        loss: scalar, a function of the parameters.
        parameters: leaf tensors that require gradients.
        max_iterations: upper bound on the number of iterations.
        tolerance: when to stop before.
    """
    optimiser = torch.optim.LBFGS(
        list(parameters),
        max_iter=max_iterations,
        tolerance_grad=tolerance.gradient,
        tolerance_change=tolerance.change,
        history_size=20,
        # Strong Wolfe conditions keep the curvature pairs valid; without a line search L-BFGS needs a step
        # size.
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    # One call runs all iterations.
    optimiser.step(closure)  # type: ignore[no-untyped-call]
