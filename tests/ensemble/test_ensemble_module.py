"""The torch twin and its ONNX graph repeat ``predict`` for every calibrator, at any batch size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

onnxruntime = pytest.importorskip("onnxruntime")

from contracts.errors import ModelError  # noqa: E402
from contracts.triage import LEVELS, triage_of  # noqa: E402
from ensemble.calibration.calibrator import Calibrator  # noqa: E402
from ensemble.calibration.fitting import CALIBRATORS  # noqa: E402
from ensemble.module import EnsembleModule  # noqa: E402
from ensemble.pipeline import fit_fusion  # noqa: E402
from ensemble.stacking.stacker import METHODS, cross_fit  # noqa: E402
from ensemble.stacking.training_scores import TrainingScores  # noqa: E402
from ensemble.without_labels import fit_without_labels  # noqa: E402

KINDS = sorted(CALIBRATORS)


@pytest.fixture(scope="module")
def fitted_by_kind(make_table, make_table_3):
    """One fitted ensemble a calibrator kind, on enough rows that isotonic has many knots."""
    table = make_table(1200, 520, strengths=(1.0, 0.5), n_folds=3)
    training = TrainingScores.from_table(table)
    logits = cross_fit(training, METHODS["plain_mean"])
    two = fit_fusion(table, "plain_mean", deployment_prior=0.5)
    three = fit_fusion(make_table_3(), "plain_mean", deployment_prior=(0.2, 0.3, 0.5))
    fitted = {
        kind: replace(two, calibrator=CALIBRATORS[kind].fit(logits, training.labels))
        for kind in KINDS
        if kind != "temperature"
    }
    assert two.calibrator == fitted["isotonic"].calibrator
    assert len(fitted["isotonic"].calibrator.knots) > 5
    return fitted | {"temperature": three}


def random_scores(fitted, n, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, len(fitted.columns))) * 2.5
    return scores.astype(np.float32)


def default_inputs(fitted):
    prior = np.asarray(fitted.deployment_prior, np.float32)
    return prior, np.asarray(fitted.threshold, np.float32)


class WithNamedInputs(torch.nn.Module):
    """The exporter takes no dynamic shapes for a variable number of arguments."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, scores, prior, threshold, miss_rate, false_alarms):
        return tuple(self.module(scores, prior, threshold, miss_rate, false_alarms))


def assert_within_a_step(fitted, scores, p_normal):
    """One step of the grid up at most, where float32 cannot tell a score from a knot."""
    passed = np.searchsorted(fitted.normal.knots, fitted.fused_scores(scores), side="left")
    levels = np.asarray(fitted.normal.levels)
    assert p_normal.dtype == np.float32
    assert p_normal.shape == passed.shape
    assert (p_normal <= levels[np.maximum(passed - 1, 0)] + 1e-6).all()
    assert (p_normal >= levels[passed] - 1e-6).all()
    assert np.mean(np.abs(p_normal - levels[passed]) <= 1e-6) > 0.99


def levels_of(fitted):
    return [torch.tensor(level, dtype=torch.float32) for level in fitted.levels.rates]


def assert_repeats_triage(fitted, scores, p_normal, p_minority, triage):
    """It follows from the p-values to the bit, and is the trained system's where these are on its step."""
    assert triage.dtype == np.int64
    np.testing.assert_array_equal(triage, triage_of(p_normal, p_minority, *fitted.levels.rates))
    same = np.isclose(p_normal, fitted.p_normal(scores), atol=1e-6)
    same &= np.isclose(p_minority, fitted.p_minority(scores), atol=1e-6)
    assert len(scores) < 100 or same.mean() > 0.98
    np.testing.assert_array_equal(triage[same], fitted.triage(scores)[same])


@pytest.mark.parametrize("kind", KINDS)
def test_module_repeats_predict(fitted_by_kind, kind):
    fitted = fitted_by_kind[kind]
    scores = random_scores(fitted, 2000)
    prior, threshold = default_inputs(fitted)
    with torch.inference_mode():
        given = (*map(torch.from_numpy, (scores, prior, threshold)), *levels_of(fitted))
        p, p_normal, decision, p_minority, triage = EnsembleModule(fitted)(*given)
    assert p.dtype == torch.float32
    assert decision.dtype == torch.int64
    np.testing.assert_allclose(p.numpy(), fitted.predict(scores), atol=1e-6, rtol=0)
    assert_within_a_step(fitted, scores, p_normal.numpy())
    assert_repeats_triage(fitted, scores, p_normal.numpy(), p_minority.numpy(), triage.numpy())
    if fitted.n_classes == 2:
        clear = np.abs(fitted.minority_probability(scores) - fitted.threshold) > 1e-6
    else:
        best = np.sort(fitted.predict(scores) / np.asarray(fitted.threshold), axis=1)
        clear = best[:, -1] - best[:, -2] > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(decision.numpy()[clear], fitted.decide(scores)[clear])
    assert len(set(decision.tolist())) == fitted.n_classes


def test_large_offsets_do_not_lose_digits(make_table):
    table = make_table(200, 40)
    shifted = table.scores.copy()
    shifted[:, 0] = shifted[:, 0] + 4096
    fitted = fit_fusion(replace(table, scores=shifted), "stack", deployment_prior=0.5)
    prior, threshold = default_inputs(fitted)
    given = (*map(torch.from_numpy, (shifted.copy(), prior, threshold)), *levels_of(fitted))
    p, p_normal, *_ = EnsembleModule(fitted)(*given)
    np.testing.assert_allclose(p.numpy(), fitted.predict(shifted), atol=2e-6, rtol=0)
    assert_within_a_step(fitted, shifted, p_normal.numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_repeats_predict_at_any_batch_size(fitted_by_kind, kind, tmp_path):
    fitted = fitted_by_kind[kind]
    path = tmp_path / "ensemble.onnx"
    prior, threshold = default_inputs(fitted)
    torch.onnx.export(
        WithNamedInputs(EnsembleModule(fitted)).eval(),
        (*map(torch.from_numpy, (random_scores(fitted, 3), prior, threshold)), *levels_of(fitted)),
        str(path),
        input_names=["scores", "prior", "threshold", *LEVELS],
        output_names=["probability", "p_normal", "decision", "p_minority", "triage"],
        dynamic_shapes={
            "scores": {0: torch.export.Dim("N")},
            **dict.fromkeys(["prior", "threshold", *LEVELS]),
        },
        dynamo=True,
        opset_version=18,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    other_prior = np.asarray(0.03 if fitted.n_classes == 2 else (0.6, 0.3, 0.1), np.float32)
    other_threshold = np.asarray(0.25 if fitted.n_classes == 2 else (0.7, 0.2, 0.1), np.float32)
    for n in (1, 2, 7):
        scores = random_scores(fitted, n, seed=n)
        for used_prior, used_threshold in ((prior, threshold), (other_prior, other_threshold)):
            levels = dict(zip(LEVELS, (level.numpy() for level in levels_of(fitted)), strict=True))
            given = {"scores": scores, "prior": used_prior, "threshold": np.asarray(used_threshold), **levels}
            p, p_normal, decision, p_minority, triage = session.run(None, given)
            assert_within_a_step(fitted, scores, p_normal)
            assert_repeats_triage(fitted, scores, p_normal, p_minority, triage)
            want = fitted.predict(scores, used_prior.tolist())
            np.testing.assert_allclose(p, want, atol=1e-6, rtol=0)
            np.testing.assert_array_equal(
                decision, fitted.decide(scores, used_prior.astype(float), used_threshold.astype(float))
            )


def test_a_calibrator_without_a_twin_is_named(fitted_by_kind):
    class Odd(Calibrator):
        kind = "odd"

        @classmethod
        def fit(cls, logit, labels):
            return cls()

        def __call__(self, logit):
            return logit

        def state(self):
            return {}

    with pytest.raises(ModelError, match="calibrator 'odd' has no graph form"):
        EnsembleModule(replace(fitted_by_kind["platt"], calibrator=Odd()))


@pytest.fixture(scope="module")
def without_labels(make_table):
    return fit_without_labels(
        make_table(199, 0, strengths=(), anomaly_strengths=(1.0, 1.0)), regime="normal_only"
    )


def test_without_labels_there_is_no_probability(without_labels):
    scores = random_scores(without_labels, 500)
    module = EnsembleModule(without_labels)
    with torch.inference_mode():
        said = module(torch.from_numpy(scores), torch.tensor(without_labels.threshold))
    assert said.probability is None
    assert_within_a_step(without_labels, scores, said.p_normal.numpy())
    assert 0 < said.decision.sum() < 500
    # In float32, too, an image exactly at alpha is decided: 2 of 200 are 0.01.
    np.testing.assert_array_equal(said.decision.numpy(), said.p_normal.numpy() <= np.float32(0.01))
    assert (said.decision.numpy()[np.isclose(said.p_normal.numpy(), 0.01)] == 1).all()


def test_a_copy_of_a_calibration_image_counts_it_in_spite_of_rounding(without_labels):
    """p_normal at a knot is the level below it; float32 alone would fall a step short on half of them."""
    knots = np.asarray(without_labels.normal.knots)
    normal = EnsembleModule(without_labels).normal
    with torch.inference_mode():
        for offset in (0.0, 1e-7):
            p = normal(torch.from_numpy((knots + offset).astype(np.float32))).numpy()
            np.testing.assert_allclose(p, without_labels.normal.levels[:-1], rtol=1e-6)
