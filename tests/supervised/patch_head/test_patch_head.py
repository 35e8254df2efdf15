"""The patch-wise head: what a patch is compared with, what is hidden from it, what its logits answer for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from contracts.member import FitContext
from features.tensors import BackboneFeatures
from supervised.patch_head.member import PatchHead
from supervised.patch_head.module import PatchHeadModule
from supervised.patch_head.settings import PatchHeadSettings
from supervised.patch_head.training import batch_counts, batches, trained_logits
from tests.rows import synthetic_rows

FAST = {"bank_patches": 60, "networks": 2, "least_steps": 60, "epochs": 1, "hidden": 8}


def fitted(rows, seed=0, record=lambda *_: None, **settings):
    return PatchHead(PatchHeadSettings(**{**FAST, **settings})).fit(rows, FitContext(seed, record=record))


def run(member, rows):
    """Scores and maps of all rows."""
    patches = torch.from_numpy(np.concatenate(list(rows.patches())))
    with torch.inference_mode():
        return member.to_module()(BackboneFeatures(torch.empty(0), torch.empty(0), patches))


def module_of(bank, temperature):
    module = PatchHeadModule(PatchHeadSettings(**FAST), bank.shape[1], len(bank), 2)
    module.bank, module.temperature = bank, torch.tensor(temperature)
    return module.eval()


def test_a_small_temperature_compares_with_the_nearest_normal_patch():
    rng = np.random.default_rng(0)
    bank, patches = (torch.from_numpy(rng.normal(size=s)).float() for s in ((9, 4), (3, 4, 2, 2)))
    inputs = module_of(bank, 1e-4).inputs(patches).reshape(-1, 9)
    for cell, row in zip(patches.permute(0, 2, 3, 1).reshape(-1, 4), inputs, strict=True):
        residual = cell - min(bank, key=lambda b, cell=cell: float((cell - b).norm()))
        np.testing.assert_allclose(row[4:8], residual, atol=1e-4)
        np.testing.assert_allclose(row[8], np.log(residual.norm() + 1e-3), atol=1e-3)


def test_hidden_patches_do_not_exist():
    bank = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    module, patch = module_of(bank, 1.0), torch.zeros(1, 2, 1, 1)
    seen, without = (module.inputs(patch, hidden) for hidden in (None, torch.tensor([[True, False]])))
    np.testing.assert_allclose(seen[0, 0, 2:4], [0.0, 0.0], atol=1e-5)
    np.testing.assert_allclose(without[0, 0, 2:4], [-10.0, 0.0], atol=1e-5)


def test_a_few_patches_decide_and_the_map_shows_them():
    """The planted evidence lies in the first 2 x 2 cells."""
    new = synthetic_rows((30, 30), seed=1)
    scores, maps = run(fitted(synthetic_rows()), new)
    assert roc_auc_score(new.labels, scores[:, 0]) > 0.9
    of_minority = maps[torch.from_numpy(new.labels == 1)].mean(dim=0)
    inside = torch.zeros(6, 6, dtype=torch.bool)
    inside[:2, :2] = True
    assert of_minority[inside].min() > of_minority[~inside].max()


def test_the_logit_is_the_mean_of_the_highest_patches_and_the_prior_is_put_back():
    """Without a correction, balanced batches would claim a quarter of minority images."""
    rows = synthetic_rows((90, 10))
    member = fitted(rows, top_share=0.1, networks=1)
    scores, maps = run(member, rows)
    top = maps.flatten(start_dim=1).topk(4, dim=1).values.mean(dim=1)  # .1 of 36 patches
    shift = np.log(0.1 / 0.9) - np.log(0.25 / 0.75)
    np.testing.assert_allclose(scores[:, 0], top + shift, rtol=1e-4, atol=1e-4)
    ledger = member.state()[1]["prior_ledger"]
    np.testing.assert_allclose(ledger["effective"], [0.75, 0.25])
    assert not ledger["recalibrate"]


def test_networks_trained_side_by_side_do_not_see_each_other():
    member = fitted(synthetic_rows(), networks=3)
    module = member.raw_module()
    inputs = torch.randn(2, 5, 17)
    before = module.patch_logits(inputs)
    with torch.no_grad():
        module.first.weight[:8] = 0.0  # the first network's hidden units
    changed = (module.patch_logits(inputs) - before).abs().amax(dim=(0, 1, 3))
    assert changed[0] > 0.0
    assert changed[1:].max() == 0.0


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_shortcut_of_the_backward_pass_changes_no_gradient(n_classes):
    torch.manual_seed(0)
    module = PatchHeadModule(PatchHeadSettings(**FAST), 3, 5, n_classes).eval()
    inputs = torch.randn(4, 36, 7)
    weights = torch.randn(4, 2, module.n_outputs)
    gradients = []
    for logits in (
        module.image_logits(module.patch_logits(inputs)),
        trained_logits(module, inputs),
    ):
        gradients.append(torch.autograd.grad((weights * logits).sum(), list(module.parameters())))
    for plain, short in zip(*gradients, strict=True):
        np.testing.assert_allclose(short, plain, atol=1e-5)


@pytest.mark.parametrize(
    ("n_classes", "expected"), [(2, [48, 16]), (3, [24, 24, 16]), (4, [16] * 4), (8, [8] * 8)]
)
def test_batches_hold_every_class(n_classes, expected):
    settings = PatchHeadSettings(least_steps=5, epochs=1)
    assert batch_counts(settings, n_classes).tolist() == expected
    labels = np.repeat(np.arange(n_classes), [100] + [3] * (n_classes - 1))
    steps = list(batches(settings, labels, n_classes, np.random.default_rng(0)))
    assert len(steps) == max(5, -(-100 // expected[0]))
    for step in steps:
        assert np.bincount(labels[step], minlength=n_classes).tolist() == expected
    assert set(np.concatenate(steps)) == set(range(len(labels)))


def test_normal_training_images_look_like_new_ones():
    """Each holds patches of the bank; with them its logit would lie far below that of new images."""
    rows, new = synthetic_rows((30, 10)), synthetic_rows((60, 0), seed=1)
    member = fitted(rows, bank_patches=36 * 30)
    module = member.raw_module()
    own = rows.subset(np.flatnonzero(rows.labels == 0))
    patches = torch.from_numpy(np.concatenate(list(own.patches())))
    # All patches of the images are in the bank, each image's in a row of 36.
    hidden = torch.kron(torch.eye(30), torch.ones(1, 36)).bool()
    with torch.inference_mode():
        apart = module.image_logits(module.patch_logits(module.inputs(patches, hidden))).mean()
        of_new = run(member, new)[0].mean() - module.correction[1] + module.correction[0]
    assert abs(float(apart - of_new)) < 0.5


def test_the_number_of_rows_is_bounded_and_every_class_stays():
    rows = synthetic_rows((60, 2, 10))
    scores = fitted(rows, max_rows=5).score(rows)
    assert scores.shape == (72, 3)
    assert np.isfinite(scores).all()


def test_losses_are_recorded():
    seen = []
    fitted(synthetic_rows((20, 8)), record=lambda *what: seen.append(what))
    assert [step for _, _, step in seen] == list(range(10, 61, 10))
    assert seen[-1][1] < seen[0][1]


def test_a_single_normal_image_is_enough():
    rows = synthetic_rows((1, 4))
    assert np.isfinite(fitted(rows).score(rows)).all()
