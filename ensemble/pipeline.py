"""Fit an ensemble from an out-of-fold table: the gated stack, the simple fusions, and each member alone.

The steps are the same for all of them, so that they differ only in the combination:

1. cross-fitted logits of the method;
2. the calibrator, on those logits;
3. the shift to the deployment prior;
4. the threshold, on the shifted logits;
5. p_normal, on the logits of the normal rows, p_minority, on those of the minority, and triage by both;
6. the combination again, on all rows, for use.

Where no minority image is labelled, see :mod:`ensemble.without_labels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.errors import UsageError, nearest_match
from contracts.scores import ScoreTable
from ensemble.calibration.fitting import fit_calibrator
from ensemble.conformal import ConformalClass, fused_score
from ensemble.fitted import FittedEnsemble, Threshold
from ensemble.logistic import Float64Array
from ensemble.prior import Prior, check_prior, shift_logit
from ensemble.stacking.gate import decide_gate
from ensemble.stacking.stacker import METHODS, Method, best_member, cross_fit, single_method
from ensemble.stacking.training_scores import TrainingScores, substitute_sentence
from ensemble.threshold import fit_threshold
from ensemble.threshold_rule import ThresholdRule, class_thresholds, parse_rule
from ensemble.triage import fit_levels, parse_triage, triage_sentence
from ensemble.unseen import UnseenKinds, decide_on_unseen

DeploymentPrior = float | Sequence[float] | None

# Rows of the results table beside the members and the gated stack.
SIMPLE_FUSIONS = ("best_single", "plain_mean", "greedy")


def fit_ensemble(
    oof: ScoreTable,
    *,
    deployment_prior: DeploymentPrior = None,
    threshold_rule: str = "min_hter",
    triage_rule: str = "auto",
    seed: int = 0,
    unseen: UnseenKinds | None = None,
) -> FittedEnsemble:
    """Fit the stack, or the best single member if it is shown to be better.

    Args:
        oof: complete out-of-fold table.
        deployment_prior: minority share (K shares for K > 2) where the model is used; None means the table's.
        threshold_rule: see :func:`ensemble.threshold_rule.parse_rule`.
        triage_rule: see :func:`ensemble.triage.parse_triage`.
        seed: of the threshold's bootstrap.
        unseen: rows judged without their kind, which the gate asks as well; None where there are none.

    Returns:
        The ensemble. Its ``method`` is ``stack``, ``guarded_stack`` if the stack is shown to be worse on
        kinds never seen, or ``single:<member>`` if the gate preferred the member; then it equals
        :func:`fit_single` of that member except for the gate's sentence.

    Raises:
        ModelError: the table is incomplete or inconsistent.
        DataError: there are too few classes, folds or positives for the fit or the threshold rule.
        UsageError: prior or rule is invalid.
    """
    training = TrainingScores.from_table(oof)
    return _gated(oof, training, _Target(deployment_prior, threshold_rule, triage_rule, seed), unseen)


def fit_single(
    oof: ScoreTable,
    member: str,
    *,
    deployment_prior: DeploymentPrior = None,
    threshold_rule: str = "min_hter",
    triage_rule: str = "auto",
    seed: int = 0,
) -> FittedEnsemble:
    """Give one member its own logistic, calibrator, prior and threshold, all fitted out of fold.

    For plain cross-entropy this is the calibrated baseline. It takes all M columns of the table and gives the
    others a weight of 0.

    Args:
        oof: see :func:`fit_ensemble`.
        member: name of a member in the table.
        deployment_prior: see :func:`fit_ensemble`.
        threshold_rule: see :func:`fit_ensemble`.
        triage_rule: see :func:`fit_ensemble`.
        seed: see :func:`fit_ensemble`.

    Raises:
        UsageError: there is no such member; otherwise as :func:`fit_ensemble`.
    """
    training = TrainingScores.from_table(oof)
    alone = _alone(training, member)
    return _finish(oof, training, alone, _Target(deployment_prior, threshold_rule, triage_rule, seed))


def fit_fusion(
    oof: ScoreTable,
    name: str,
    *,
    deployment_prior: DeploymentPrior = None,
    threshold_rule: str = "min_hter",
    triage_rule: str = "auto",
    seed: int = 0,
) -> FittedEnsemble:
    """Fit one method by name, ungated: ``stack``, ``best_single``, ``plain_mean`` or ``greedy``.

    Raises:
        UsageError: there is no such method; otherwise as :func:`fit_ensemble`.
    """
    if name not in METHODS:
        raise UsageError(
            f"ensemble method '{name}' does not exist.{nearest_match(name, METHODS)} "
            f"Use one of: {', '.join(METHODS)}."
        )
    training = TrainingScores.from_table(oof)
    candidate = _cross_fitted(name, training, METHODS[name])
    return _finish(oof, training, candidate, _Target(deployment_prior, threshold_rule, triage_rule, seed))


def fit_all(
    oof: ScoreTable,
    *,
    deployment_prior: DeploymentPrior = None,
    threshold_rule: str = "min_hter",
    triage_rule: str = "auto",
    seed: int = 0,
    unseen: UnseenKinds | None = None,
) -> dict[str, FittedEnsemble]:
    """Fit every row of the results table.

    Args:
        oof: see :func:`fit_ensemble`.
        deployment_prior: see :func:`fit_ensemble`.
        threshold_rule: see :func:`fit_ensemble`.
        triage_rule: see :func:`fit_ensemble`.
        seed: see :func:`fit_ensemble`.
        unseen: see :func:`fit_ensemble`.

    Returns:
        Each member by its name, then ``best_single``, ``plain_mean`` and ``greedy``, and finally
        ``ensemble``, the gated stack.

    Raises:
        As :func:`fit_ensemble`.
    """
    # One object for all of them, because it remembers the fits that they share.
    training = TrainingScores.from_table(oof)
    target = _Target(deployment_prior, threshold_rule, triage_rule, seed)
    fitted = {member: _finish(oof, training, _alone(training, member), target) for member in oof.member_names}
    for name in SIMPLE_FUSIONS:
        fitted[name] = _finish(oof, training, _cross_fitted(name, training, METHODS[name]), target)
    fitted["ensemble"] = _gated(oof, training, target, unseen)
    return fitted


@dataclass(frozen=True)
class _Target:
    """What the probabilities and the decision are fitted for."""

    deployment_prior: DeploymentPrior
    threshold_rule: str
    triage_rule: str
    seed: int


@dataclass(frozen=True)
class _CrossFitted:
    """A method with its logits of rows that it was not fitted on."""

    name: str
    method: Method
    logits: Float64Array


def _cross_fitted(name: str, training: TrainingScores, method: Method) -> _CrossFitted:
    """Step 1 of the module's docstring."""
    return _CrossFitted(name, method, cross_fit(training, method))


def _alone(training: TrainingScores, member: str) -> _CrossFitted:
    """Step 1 for one member."""
    return _cross_fitted(f"single:{member}", training, single_method(training, member))


def _gated(
    oof: ScoreTable, training: TrainingScores, target: _Target, unseen: UnseenKinds | None
) -> FittedEnsemble:
    """All steps for the stack, or for what the gates prefer to it."""
    best = best_member(training)
    stack, alone = _cross_fitted("stack", training, METHODS["stack"]), _alone(training, best)
    gate = decide_gate(training, stack.logits, alone.logits, best, seed=target.seed)
    preferred = "stack" if gate.keep_stack else alone.name
    evidence = None if unseen is None else unseen.of_rows(oof)
    if evidence is None:
        return _finish(oof, training, stack if gate.keep_stack else alone, target, (gate.sentence,))
    method, sentence = decide_on_unseen(evidence, preferred, alone.method, seed=target.seed)
    chosen = {stack.name: stack, alone.name: alone}.get(method) or _cross_fitted(
        method, training, METHODS[method]
    )
    return _finish(oof, training, chosen, target, (gate.sentence, sentence))


def _finish(
    oof: ScoreTable,
    training: TrainingScores,
    candidate: _CrossFitted,
    target: _Target,
    first_sentences: tuple[str, ...] = (),
) -> FittedEnsemble:
    """Steps 2 to 6 of the module's docstring."""
    rule = parse_rule(target.threshold_rule)
    trained = _trained_prior(training)
    deployment = (
        trained
        if target.deployment_prior is None
        else check_prior(target.deployment_prior, training.n_classes)
    )
    # On cross-fitted logits: in-sample logits of the stack are too confident, and the calibrator would learn
    # to leave them so.
    calibrator, calibrator_sentence = fit_calibrator(candidate.logits, training.labels)
    # The threshold applies to the probabilities that users see, hence after the shift.
    shifted = shift_logit(calibrator(candidate.logits), trained, deployment)
    threshold, threshold_sentence = _threshold(rule, shifted, training, deployment, target.seed)
    # Every class but the minority is normal: p_normal asks only whether an image is one of the rare ones.
    is_normal = training.labels < training.n_classes - 1
    fused, groups = fused_score(candidate.logits), training.groups
    normal = ConformalClass.fit(fused[is_normal], groups[is_normal])
    minority = ConformalClass.fit(-fused[~is_normal], groups[~is_normal], "minority")
    share = deployment if isinstance(deployment, float) else deployment[-1]
    levels = fit_levels(parse_triage(target.triage_rule), fused, ~is_normal, normal, minority, share)
    return FittedEnsemble(
        method=candidate.name,
        columns=oof.columns,
        class_names=oof.class_names,
        # For use the combination learns from all rows; it only had to leave rows out to be judged.
        combination=candidate.method(training),
        calibrator=calibrator,
        trained_prior=trained,
        deployment_prior=deployment,
        threshold=threshold,
        threshold_rule=rule.text,
        normal=normal,
        sentences=(
            *first_sentences,
            *substitute_sentence(oof),
            calibrator_sentence,
            _prior_sentence(trained, deployment, oof.class_names),
            threshold_sentence,
            normal.sentence,
            minority.sentence,
            triage_sentence(levels, oof.class_names[-1]),
        ),
        minority=minority,
        levels=levels,
    )


def _threshold(
    rule: ThresholdRule,
    shifted: Float64Array,
    training: TrainingScores,
    deployment: Prior,
    seed: int,
) -> tuple[Threshold, str]:
    """Step 4: fitted for two classes; for K > 2 it follows from the rule and the class shares."""
    if not isinstance(deployment, float):
        return class_thresholds(rule, deployment)
    fitted = fit_threshold(
        rule, shifted, training.labels, training.groups, minority_prior=deployment, seed=seed
    )
    return fitted.threshold, fitted.sentence


def _prior_sentence(trained: Prior, deployment: Prior, class_names: tuple[str, ...]) -> str:
    """Which class shares the probabilities refer to, and those of the rows."""
    if isinstance(deployment, float):
        return (
            f"Probabilities answer for a minority share of {deployment:.4g}; "
            f"the out-of-fold rows hold {trained:.4g}."
        )
    assert not isinstance(trained, float)
    asked, there = (
        ", ".join(f"{name} {share:.4g}" for name, share in zip(class_names, shares, strict=True))
        for shares in (deployment, trained)
    )
    return f"Probabilities answer for shares of {asked}; the out-of-fold rows hold {there}."


def _trained_prior(training: TrainingScores) -> Prior:
    """Class shares of the out-of-fold rows, which the calibrator's intercept reflects."""
    shares = np.bincount(training.labels, minlength=training.n_classes) / len(training.labels)
    return float(shares[1]) if training.n_classes == 2 else tuple(shares.tolist())
