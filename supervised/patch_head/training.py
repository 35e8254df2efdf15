"""Training the patch-wise head on class-balanced batches of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from contracts.rows import IndexArray, LabelArray
from supervised.patch_head.module import PatchHeadModule
from supervised.patch_head.settings import PatchHeadSettings


def batch_counts(settings: PatchHeadSettings, n_classes: int) -> IndexArray:
    """``[K]`` images of each class in a batch, one at least."""
    minority = min(settings.minority_share, 1.0 / n_classes)
    shares = np.full(n_classes, (1.0 - minority) / (n_classes - 1))
    shares[-1] = minority
    counts: IndexArray = np.maximum(1, np.rint(shares * settings.batch_size)).astype(np.int64)
    return counts


def batches(
    settings: PatchHeadSettings, labels: LabelArray, n_classes: int, rng: np.random.Generator
) -> Iterator[IndexArray]:
    """Positions of each step's images; a class goes through all its rows before any is repeated.

    Args:
        settings: batch and number of steps.
        labels: ``[N]`` class index; every class has rows.
        n_classes: K.
        rng: of the order.
    """
    counts = batch_counts(settings, n_classes)
    rows = [np.flatnonzero(labels == k) for k in range(n_classes)]
    longest = max(-(-len(rows[k]) // counts[k]) for k in range(n_classes - 1))
    n_steps = max(settings.least_steps, settings.epochs * int(longest))
    streams = []
    for mine, count in zip(rows, counts, strict=True):
        n_rounds = -(-n_steps * int(count) // len(mine))
        order = np.concatenate([rng.permutation(mine) for _ in range(n_rounds)])
        streams.append(order[: n_steps * count].reshape(n_steps, count))
    yield from np.concatenate(streams, axis=1)


def train(
    module: PatchHeadModule,
    inputs: Tensor,
    labels: LabelArray,
    seed: int,
    record: Callable[[str, float, int], None],
) -> None:
    """Fit the two layers in place. Call inside ``torch.random.fork_rng()``: dropout draws from torch's seed.

    Each network has a loss of its own, so that training them as one is the same as one by one.

    Args:
        module: with its buffers set, on the device of the inputs.
        inputs: ``[N, P, 2C + 1]`` of any float type.
        labels: ``[N]``.
        seed: of the batches.
        record: receives the loss of every tenth step.
    """
    settings = module.settings
    rng = np.random.default_rng(seed)
    of_row = torch.from_numpy(labels).to(inputs.device)
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    module.train()
    for step, positions in enumerate(batches(settings, labels, module.n_classes, rng), start=1):
        at = torch.from_numpy(positions).to(inputs.device)
        shown = inputs[at].float()
        loss = _loss(trained_logits(module, shown), of_row[at])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 10 == 0:
            record("training_loss", float(loss.detach()) / settings.networks, step)
    module.eval()


def trained_logits(module: PatchHeadModule, inputs: Tensor) -> Tensor:
    """``[N, M, n_outputs]`` image logits, and their gradients by way of the patches that they consist of.

    All patches are needed to know the highest, but only these have a gradient: most of the time that a plain
    backward pass takes goes into zeros. Each network chooses its patches with all of its hidden units, as it
    will when it scores; units are switched off only in learning from them, patch by patch. That ranks better
    than one draw of units for all patches of an image.

    Args:
        module: in training.
        inputs: ``[N, P, 2C + 1]``.
    """
    with torch.no_grad():
        highest = module.patch_logits(inputs).topk(module.n_top(inputs.shape[1]), dim=1).indices
    at = highest.flatten(start_dim=1)[..., None].expand(-1, -1, inputs.shape[2])
    chosen = inputs.gather(1, at).reshape(*highest.shape, inputs.shape[2])
    return module.chosen_logits(chosen).mean(dim=1)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over networks of the mean cross-entropy over images, from ``[N, M, n_outputs]`` logits."""
    n_networks, n_outputs = logits.shape[1:]
    if n_outputs == 1:
        target = (labels == 1).float()[:, None].expand(-1, n_networks)
        return n_networks * binary_cross_entropy_with_logits(logits[..., 0], target)
    repeated = labels[:, None].expand(-1, n_networks).flatten()
    return n_networks * cross_entropy(logits.flatten(end_dim=1), repeated)
