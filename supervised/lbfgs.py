"""Minimising an objective over all rows at once by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def minimise(loss: Callable[[], Tensor], parameters: Sequence[Tensor], max_iterations: int) -> None:
    """Minimise ``loss()`` over ``parameters`` in place; deterministic, without a step size to tune.

    Args:
        loss: scalar, a function of the parameters.
        parameters: leaf tensors that require gradients.
        max_iterations: upper bound on the number of iterations.
    """
    optimiser = torch.optim.LBFGS(
        list(parameters),
        max_iter=max_iterations,
        tolerance_grad=1e-6,
        tolerance_change=1e-10,
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
