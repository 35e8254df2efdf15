"""SimCLR, linear evaluation and re-training as parts of a whole CNN member."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from contracts.errors import MemberCollapsedError
from contracts.member import FitContext
from features.settings import BackboneSettings
from supervised.head import HeadCnn
from supervised.labels import early_stopping_split
from supervised.settings import CnnSettings
from supervised.whole_cnn import tuned
from supervised.whole_cnn.last_layer import frozen_features, last_linear
from supervised.whole_cnn.linear import LinearCnn
from supervised.whole_cnn.pixels import PixelDataset
from supervised.whole_cnn.tuned import TunedCnn
from tests.rows import relabelled, scrambled, synthetic_rows

BACKBONE = BackboneSettings(name="test_resnet", weights="random", image_size=32)
FULL = {
    "tune": "full",
    "image_size": 32,
    "epochs": 1,
    "batch_size": 16,
    "optimiser": {"learning_rate": 3e-3},
}
SIMCLR = {"epochs": 1, "batch_size": 16, "projection_dim": 8}
LINEAR = {"tune": "linear", "image_size": 32}


def fitted(rows, **settings):
    settings = CnnSettings(**settings)
    member = (LinearCnn if settings.tune == "linear" else TunedCnn)(settings, BACKBONE)
    sentences = []
    member.fit(rows, FitContext(0, report=sentences.append))
    return member, sentences


def layers_below(member):
    """Arrays of everything but the last layer and the correction."""
    arrays, _ = member.state()
    path, _ = last_linear(member.to_module().classifier)
    return {k: v for k, v in arrays.items() if not k.startswith(f"classifier.{path}.") and k != "correction"}


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["crt", "tau_norm", "lws"])
def test_retraining_leaves_the_representation_untouched(method):
    rows = synthetic_rows((30, 12))
    plain, _ = fitted(rows, **FULL)
    # Where the norms are as good as they are tau 0 is chosen, which changes nothing.
    given = {"tau": 0.5} if method == "tau_norm" else {}
    retrained, sentences = fitted(rows, **FULL, retrain={"method": method, **given})
    assert same(layers_below(plain), layers_below(retrained))
    old, new = (
        last_linear(member.to_module().classifier)[1].weight.detach() for member in (plain, retrained)
    )
    assert not torch.equal(old, new)
    if method != "crt":
        cosine = torch.nn.functional.cosine_similarity(old, new, dim=1)
        torch.testing.assert_close(cosine, torch.ones(2))
    assert sentences[-1].startswith("lws: scales" if method == "lws" else "stopped after")
    ledger = retrained.state()[1]["prior_ledger"]
    assert ledger["recalibrate"] == (method != "crt")
    assert bool(retrained.to_module().correction.any()) == (method == "crt")


def test_tau_is_chosen_on_the_rows_set_aside_and_nowhere_else(monkeypatch):
    seen = {}

    def spy(settings, weight, bias, fit, stop):
        seen.update(fit=fit, stop=stop)
        return original(settings, weight, bias, fit, stop)

    original = tuned.refit
    monkeypatch.setattr(tuned, "refit", spy)
    rows = synthetic_rows((30, 12))
    member, _ = fitted(rows, **FULL, retrain={"method": "tau_norm"})
    positions = early_stopping_split(rows.labels, rows.groups, member.settings.validation_share, 0)
    for part, at in zip((seen["fit"], seen["stop"]), positions, strict=True):
        assert part.labels.tolist() == rows.labels[at].tolist()
        expected = frozen_features(member.to_module(), PixelDataset(rows, at, 32))
        torch.testing.assert_close(part.features, expected)


def test_retraining_needs_no_rows_set_aside_where_tau_is_given():
    rows = synthetic_rows((30, 12))
    given = {"method": "tau_norm", "tau": 1.0}
    member, sentences = fitted(rows, **FULL, validation_share=0.0, retrain=given)
    norms = last_linear(member.to_module().classifier)[1].weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(2))
    assert len(sentences) == 1


def test_simclr_changes_where_fine_tuning_starts():
    rows = synthetic_rows((30, 12))
    member, sentences = fitted(rows, **FULL, simclr=SIMCLR)
    assert sentences[0].startswith("simclr: loss ")
    assert " on 36 images " in sentences[0]  # the 6 set aside judge what was learned; they teach nothing
    assert not same(layers_below(member), layers_below(fitted(rows, **FULL)[0]))


def test_statistics_that_simclr_learned_are_kept_in_fine_tuning():
    """The backbone starts random; auto would train them, had not SimCLR done so already."""
    rows = synthetic_rows((30, 12))
    member, _ = fitted(rows, **FULL, simclr=SIMCLR)
    frozen, _ = fitted(rows, **FULL, simclr=SIMCLR, batch_norm="frozen")
    assert np.array_equal(member.score(rows), frozen.score(rows))


def test_linear_evaluation_never_shows_labels_to_the_network():
    rows = synthetic_rows((30, 12))
    one, _ = fitted(rows, **LINEAR, simclr=SIMCLR)
    other, _ = fitted(relabelled(rows, rows.labels[::-1].copy()), **LINEAR, simclr=SIMCLR)
    assert same(layers_below(one), layers_below(other))
    assert not np.array_equal(one.score(rows), other.score(rows))
    assert not same(layers_below(one), layers_below(fitted(rows, **LINEAR)[0]))


def test_simclr_reads_training_rows_of_both_sides_and_no_others():
    rows = synthetic_rows((30, 12)).subset(np.arange(36))
    one = layers_below(fitted(rows, **LINEAR, simclr=SIMCLR)[0])
    outside = scrambled(rows, np.arange(36, 42))
    assert same(one, layers_below(fitted(outside, **LINEAR, simclr=SIMCLR)[0]))
    for label in (0, 1):
        changed = scrambled(rows, rows.positions[rows.labels == label][:3])
        assert not same(one, layers_below(fitted(changed, **LINEAR, simclr=SIMCLR)[0]))


def test_a_linear_cnn_is_a_head_on_the_frozen_networks_features():
    rows, new = synthetic_rows((40, 15)), synthetic_rows((10, 10), seed=1)
    settings = CnnSettings(**LINEAR, l2=5.0, loss="weighted_cross_entropy", sampler={"kind": "square_root"})
    member = LinearCnn(settings, BACKBONE).fit(rows, FitContext(0))
    network = LinearCnn(settings, BACKBONE).initial_module(2, 0)
    features, new_features = (
        frozen_features(network, PixelDataset(each, np.arange(len(each)), 32)) for each in (rows, new)
    )
    head = HeadCnn(settings).fit_features(features, rows.labels, 2, FitContext(0)).to_module()
    logits = head.head(head.standardise(new_features)) + head.correction
    expected = (logits[:, 1] - logits[:, 0]).detach().numpy()
    np.testing.assert_allclose(member.score(new)[:, 0], expected, rtol=1e-3, atol=1e-3)
    assert member.state()[1]["prior_ledger"]["exact"]


def test_images_that_are_all_alike_are_a_collapse():
    rows = synthetic_rows((12, 6))
    rows.base.images[:] = 100
    with pytest.raises(MemberCollapsedError, match="simclr: collapsed"):
        fitted(rows, **LINEAR, simclr=SIMCLR)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"simclr": {}}, "simclr: no effect with tune=head; leave out, or set tune=full or linear"),
        ({"retrain": {"method": "crt"}}, "retrain: no effect with tune=head; .* set tune=full"),
        ({**LINEAR, "retrain": {"method": "crt"}}, "retrain: no effect with tune=linear"),
        ({**LINEAR, "epochs": 3}, "epochs: no effect with tune=linear; leave out, or set tune=full"),
        ({**LINEAR, "hidden": 3}, "hidden: no effect with tune=linear; leave out, or set tune=head"),
        (
            {"tune": "full", "validation_share": 0.0, "retrain": {"method": "tau_norm"}},
            "validation_share=0 sets none aside; give retrain.tau or a validation_share",
        ),
    ],
)
def test_what_cannot_go_together_is_refused(settings, sentence):
    with pytest.raises(ValidationError, match=sentence):
        CnnSettings(**settings)
