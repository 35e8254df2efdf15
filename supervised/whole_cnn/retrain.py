"""Refitting only the classifier of a trained CNN, on its frozen representation.

Source: Kang et al. 2020, "Decoupling Representation and Classifier for Long-Tailed Recognition"
(https://arxiv.org/abs/1910.09217): plain training learns good features even from few minority
images, while its classifier favours the majority. We differ in replacing class-balanced sampling by class
weights on all rows at once (the same expected loss), minimised by L-BFGS, and in using features of images
without augmentation.

With two classes the gradients of the two weight vectors are opposite at every step, so their norms differ
only as much as their random start does. Tau-normalisation and learned scales then have little effect; they
were made for many classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contracts.errors import UsageError
from contracts.member import FitContext
from supervised.class_weights import inverse_frequency_weights
from supervised.head import HeadCnn
from supervised.lbfgs import minimise
from supervised.objective import PriorLedger
from supervised.settings import CnnSettings
from supervised.whole_cnn.representation_settings import RetrainSettings

TAU_GRID = tuple(step / 10 for step in range(11))
_CHOICE_ITERATIONS = 50


@dataclass(frozen=True)
class FeatureRows:
    """Inputs of the classifier, with labels.

    Attributes:
        features: ``[N, D]`` float32.
        labels: ``[N]`` int64.
    """

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Refitted:
    """A classifier to replace the trained one.

    Attributes:
        weight: ``[K, D]``.
        bias: ``[K]``.
        ledger: which class shares its probabilities refer to.
        sentence: what was done, for the cached result; may be empty.
    """

    weight: Tensor
    bias: Tensor
    ledger: PriorLedger
    sentence: str = ""


def refit(
    settings: RetrainSettings, weight: Tensor, bias: Tensor, fit: FeatureRows, stop: FeatureRows | None
) -> Refitted:
    """Refit the classifier by the settings' method.

    The ledger: ``crt`` minimises cross-entropy with inverse-frequency weights, whose minimum over all
    functions of the frozen features z is p(k | z) / n_k, renormalised. Adding log n_k to the logits restores
    p(k | z), as for class weights in training. It does not matter that another objective made the features,
    because p(k | z) is defined for any z. ``tau_norm`` and ``lws`` multiply logits, which no constant
    undoes; they are left to recalibration.

    Args:
        settings: ``method`` is not ``none``.
        weight: ``[K, D]`` of the trained classifier.
        bias: ``[K]`` of the trained classifier.
        fit: rows that the CNN was trained on, of every class.
        stop: rows set aside for early stopping, on which ``tau`` is chosen; None if tau is given.

    Raises:
        UsageError: tau is to be chosen, but there are no rows to choose it on.
    """
    n_classes = len(weight)
    counts = torch.bincount(fit.labels, minlength=n_classes)
    shares = tuple((counts.double() / counts.sum()).tolist())
    balanced = (1.0 / n_classes,) * n_classes
    if settings.method == "crt":
        head_settings = CnnSettings(
            loss="weighted_cross_entropy", l2=settings.l2, max_iterations=settings.max_iterations
        )
        # The seed does not matter: the objective is convex and starts from zeros.
        head = HeadCnn(head_settings).fit_features(
            fit.features, fit.labels.numpy(), n_classes, FitContext(seed=0)
        )
        return Refitted(*head.raw_module().as_linear(), PriorLedger(shares, balanced, exact=True))
    if settings.method == "lws":
        scales = learned_scales(weight, bias, fit, settings.max_iterations)
        said = "lws: scales " + ", ".join(f"{scale:.3f}" for scale in scales.tolist())
        return Refitted(
            weight * scales[:, None], bias * scales, PriorLedger(shares, balanced, exact=False), said
        )
    tau, said = settings.tau, ""
    if tau is None:
        if stop is None:
            raise UsageError(
                "retrain: tau is to be chosen, but no rows were set aside. "
                "Give retrain.tau or validation_share."
            )
        tau = chosen_tau(weight, stop)
        said = f"tau_norm: tau {tau:g}, chosen on {len(stop.labels)} rows set aside"
    # Which shares normalised weights refer to is unknown; the training shares are recorded, marked inexact.
    return Refitted(
        tau_normalised(weight, tau),
        torch.zeros(n_classes),
        PriorLedger(shares, shares, exact=False),
        said,
    )


def tau_normalised(weight: Tensor, tau: float) -> Tensor:
    """``[K, D]`` weight vectors divided by their norm to the power tau (the tau-normalised classifier).

    0 leaves them unchanged, 1 makes all norms 1. As in the source, biases are dropped.

    Args:
        weight: ``[K, D]``.
        tau: 0 to 1.
    """
    norms = weight.norm(dim=1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    normalised: Tensor = weight / norms.pow(tau)
    return normalised


def chosen_tau(weight: Tensor, stop: FeatureRows) -> float:
    """The tau in :data:`TAU_GRID` with the least class-balanced cross-entropy; the smallest among equals.

    Tau changes the scale of all logits together, which calibration corrects later. So each candidate is
    judged at its own best scale. The source uses accuracy on a balanced set; with a handful of minority rows,
    accuracy moves in steps that are too coarse.

    Args:
        weight: ``[K, D]`` of the trained classifier.
        stop: rows used neither in training nor in the figures of the fold.
    """
    losses = {
        # Rounded to four digits, so that differences in the optimiser's last digits do not choose tau.
        tau: round(_loss_at_best_scale(stop.features @ tau_normalised(weight, tau).T, stop.labels), 4)
        for tau in TAU_GRID
    }
    return min(TAU_GRID, key=lambda tau: (losses[tau], tau))


def learned_scales(weight: Tensor, bias: Tensor, fit: FeatureRows, max_iterations: int) -> Tensor:
    """``[K]`` positive factors of the class scores, learned with balanced classes (learnable weight scaling).

    A trained CNN often separates its own training rows perfectly, and the best factors are then infinite. A
    penalty on the summed loss, half the squared logarithm of each factor, keeps them near 1.

    Args:
        weight: ``[K, D]`` of the trained classifier; not changed.
        bias: ``[K]`` likewise; scaled with the weights, as in the authors' code.
        fit: rows that the CNN was trained on.
        max_iterations: of L-BFGS.
    """
    logits = nn.functional.linear(fit.features, weight, bias).detach()
    class_weights = inverse_frequency_weights(torch.bincount(fit.labels, minlength=len(weight)))
    log_scales = torch.zeros(len(weight), requires_grad=True)

    def loss() -> Tensor:
        ridge = 0.5 * log_scales.square().sum() / len(fit.labels)
        return _balanced(logits * log_scales.exp(), fit.labels, class_weights) + ridge

    minimise(loss, [log_scales], max_iterations)
    return log_scales.detach().exp()


def _balanced(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    return (losses * class_weights[labels]).mean()


def _loss_at_best_scale(logits: Tensor, labels: Tensor) -> float:
    """Class-balanced cross-entropy of the logits times the best common positive factor."""
    # Classes without rows have no loss; the clamp only avoids a division by 0.
    counts = torch.bincount(labels, minlength=logits.shape[1]).clamp_min(1)
    class_weights = inverse_frequency_weights(counts)
    # Scaled to a spread of 1, so that the search starts from the same scale at every tau.
    logits = logits / logits.std().clamp_min(1e-12)
    log_scale = torch.zeros((), requires_grad=True)
    minimise(
        lambda: _balanced(logits * log_scale.exp(), labels, class_weights), [log_scale], _CHOICE_ITERATIONS
    )
    return float(_balanced(logits * log_scale.detach().exp(), labels, class_weights))
