"""Fitting only the classifier of a trained CNN anew, with its representation left alone.

Source: Kang et al. 2020, "Decoupling Representation and Classifier for Long-Tailed Recognition"
(https://arxiv.org/abs/1910.09217): plain training learns good features even from few minority
images, while its classifier favours the majority. Where we differ: class-balanced sampling becomes class
weights on all rows at once (the same expected loss), minimised by L-BFGS; features are those of the
unchanged images.

With two classes the gradients of the two weight vectors are opposite at every step, so their norms part
only as far as their random start does: tau-normalisation and scales then have little to work on. They were
made for many classes.
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
from supervised.representation_settings import RetrainSettings
from supervised.settings import CnnSettings

TAU_GRID = tuple(step / 10 for step in range(11))
_CHOICE_ITERATIONS = 50


@dataclass(frozen=True)
class FeatureRows:
    """What the classifier reads, with the truth.

    Attributes:
        features: ``[N, D]`` float32.
        labels: ``[N]`` int64.
    """

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Refitted:
    """A classifier in place of the trained one.

    Attributes:
        weight: ``[K, D]``.
        bias: ``[K]``.
        ledger: which class shares its probabilities answer for.
        sentence: what was done, for the cached result; empty where there is nothing to add.
    """

    weight: Tensor
    bias: Tensor
    ledger: PriorLedger
    sentence: str = ""


def refit(
    settings: RetrainSettings, weight: Tensor, bias: Tensor, fit: FeatureRows, stop: FeatureRows | None
) -> Refitted:
    """Fit the classifier anew by the settings' method.

    The ledger: ``crt`` minimises cross-entropy with inverse-frequency weights, whose minimum over all
    functions of the frozen features z is p(k | z) / n_k, renormalised. Adding log n_k to the logits brings
    p(k | z) back, exactly as for class weights in training: that the features came out of another objective
    does not matter, as p(k | z) is defined for any z. ``tau_norm`` and ``lws`` change logits by factors,
    which no constant undoes; they are left to recalibration.

    Args:
        settings: ``method`` is not ``none``.
        weight: ``[K, D]`` of the trained classifier.
        bias: ``[K]`` of the trained classifier.
        fit: rows that the CNN was trained on, of every class.
        stop: rows that early stopping set aside, on which ``tau`` is chosen; None where it is given.

    Raises:
        UsageError: tau is to be chosen and there is nothing to choose it on.
    """
    n_classes = len(weight)
    counts = torch.bincount(fit.labels, minlength=n_classes)
    shares = tuple((counts.double() / counts.sum()).tolist())
    balanced = (1.0 / n_classes,) * n_classes
    if settings.method == "crt":
        head_settings = CnnSettings(
            loss="weighted_cross_entropy", l2=settings.l2, max_iterations=settings.max_iterations
        )
        # No seed matters: the objective is convex, and zeros are the start.
        head = HeadCnn(head_settings).fit_features(
            fit.features, fit.labels.numpy(), n_classes, FitContext(seed=0)
        )
        return Refitted(*head.to_module().as_linear(), PriorLedger(shares, balanced, exact=True))
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
    # What shares normalised weights answer for is not known; the trained ones stand for want of better.
    return Refitted(
        tau_normalised(weight, tau),
        torch.zeros(n_classes),
        PriorLedger(shares, shares, exact=False),
        said,
    )


def tau_normalised(weight: Tensor, tau: float) -> Tensor:
    """``[K, D]`` weight vectors divided by their norm to the power tau (the tau-normalised classifier).

    0 leaves them, 1 makes their norms 1. As in the source, the biases are dropped.

    Args:
        weight: ``[K, D]``.
        tau: 0 to 1.
    """
    norms = weight.norm(dim=1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    normalised: Tensor = weight / norms.pow(tau)
    return normalised


def chosen_tau(weight: Tensor, stop: FeatureRows) -> float:
    """The tau of :data:`TAU_GRID` with the least class-balanced cross-entropy; the smaller of equals.

    Tau changes the size of all logits together, which calibration settles later, so each candidate is
    judged at the common scale that suits it best. The source takes accuracy on a balanced set; with a
    handful of minority rows accuracy moves in steps too coarse to choose by.

    Args:
        weight: ``[K, D]`` of the trained classifier.
        stop: rows that neither training nor held-out figures use.
    """
    losses = {
        tau: round(_loss_at_best_scale(stop.features @ tau_normalised(weight, tau).T, stop.labels), 4)
        for tau in TAU_GRID
    }
    return min(TAU_GRID, key=lambda tau: (losses[tau], tau))


def learned_scales(weight: Tensor, bias: Tensor, fit: FeatureRows, max_iterations: int) -> Tensor:
    """``[K]`` positive factors of the class scores, learned with balanced classes (learnable weight scaling).

    A trained CNN often separates its own training rows, and the best factors are then infinite; half the
    squared logarithm of each factor, against the summed loss, keeps them near 1.

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
    # Classes that are not among the rows weigh nothing; they divide by 1 instead of 0.
    counts = torch.bincount(labels, minlength=logits.shape[1]).clamp_min(1)
    class_weights = inverse_frequency_weights(counts)
    # From a spread of 1 on, so that the search starts alike at every tau.
    logits = logits / logits.std().clamp_min(1e-12)
    log_scale = torch.zeros((), requires_grad=True)
    minimise(
        lambda: _balanced(logits * log_scale.exp(), labels, class_weights), [log_scale], _CHOICE_ITERATIONS
    )
    return float(_balanced(logits * log_scale.detach().exp(), labels, class_weights))
