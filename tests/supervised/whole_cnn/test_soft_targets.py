"""Class shares in place of labels: the loss, the batches that carry them, the network that learns them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from contracts.errors import UsageError
from contracts.member import FitContext
from features.settings import BackboneSettings
from supervised.losses import cross_entropy, soft_cross_entropy
from supervised.settings import AugmentSettings, CnnSettings
from supervised.whole_cnn.pixels import PixelDataset
from supervised.whole_cnn.tuned import TunedCnn
from tests.rows import synthetic_rows
from workflow.exporting.student.plan import StudentPlan
from workflow.run.fits import FINAL, Fit
from workflow.settings.recipe import MemberPlan
from workflow.training.train import run_fit


def member(**settings) -> TunedCnn:
    given = {"image_size": 16, "epochs": 3, "validation_share": 0.0, "optimiser": {"learning_rate": 1e-2}}
    backbone = BackboneSettings(name="small_cnn_16")
    return TunedCnn(CnnSettings(tune="full", **{**given, **settings}), backbone)


def one_hot(labels: np.ndarray, n_classes: int = 2) -> np.ndarray:
    return np.eye(n_classes, dtype=np.float32)[labels]


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_loss_is_the_obvious_sum(n_classes):
    torch.manual_seed(0)
    logits = 3.0 * torch.randn(7, n_classes)
    targets = torch.softmax(torch.randn(7, n_classes), dim=1)
    for row, loss in enumerate(soft_cross_entropy(logits, targets)):
        total = sum(math.exp(float(z)) for z in logits[row])
        expected = -sum(
            float(targets[row, k]) * math.log(math.exp(float(logits[row, k])) / total)
            for k in range(n_classes)
        )
        assert float(loss) == pytest.approx(expected, rel=1e-5)
    labels = torch.arange(7) % n_classes
    hard = torch.nn.functional.one_hot(labels, n_classes).float()
    torch.testing.assert_close(soft_cross_entropy(logits, hard), cross_entropy(logits, labels))


def test_batches_carry_the_targets_of_their_rows():
    rows = synthetic_rows((6, 4))
    positions = np.array([7, 2, 5])
    targets = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], dtype=np.float32)
    made_up = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([1, 0])
    dataset = PixelDataset(rows, positions, 16, None, made_up, targets)
    batch = dataset.__getitems__([2, 0, 3, 4])
    torch.testing.assert_close(batch.targets, torch.tensor([[0.2, 0.8], [0.9, 0.1], [0.0, 1.0], [1.0, 0.0]]))
    assert PixelDataset(rows, positions, 16).__getitems__([0]).targets is None


def test_mixed_pixels_have_mixed_targets():
    rows = synthetic_rows((6, 4))
    targets = one_hot(rows.labels) * 0.5 + 0.25
    torch.manual_seed(0)
    augment = AugmentSettings(flips="none", mix="mixup")
    batch = PixelDataset(rows, np.arange(10), 16, augment, None, targets).__getitems__(list(range(10)))
    of_row, of_partner = (
        torch.from_numpy(one_hot(labels.numpy()) * 0.5 + 0.25)
        for labels in (batch.labels, batch.partner_labels)
    )
    share = batch.share[:, None]
    torch.testing.assert_close(batch.targets, share * of_row + (1 - share) * of_partner)
    assert len(batch.share.unique()) > 1 or float(batch.share[0]) < 1


def test_labels_written_as_shares_train_the_same_network():
    rows = synthetic_rows((20, 10))
    plain = member().fit(rows, FitContext(0)).score(rows)
    soft = member().fit(rows, FitContext(0, targets=one_hot(rows.labels))).score(rows)
    np.testing.assert_allclose(soft, plain, rtol=1e-3, atol=1e-3)


def test_the_network_learns_the_targets_and_not_the_labels():
    rows = synthetic_rows((20, 10), strength=3.0)
    score = (
        member(epochs=10, batch_size=6)
        .fit(rows, FitContext(0, targets=one_hot(1 - rows.labels)))
        .score(rows)[:, 0]
    )
    assert score[rows.labels == 0].mean() > score[rows.labels == 1].mean()


def test_the_ledger_leaves_soft_targets_to_calibration():
    rows = synthetic_rows((20, 10))
    targets = one_hot(rows.labels) * 0.8 + 0.1
    fitted = member(epochs=1, sampler={"kind": "oversample"}).fit(rows, FitContext(0, targets=targets))
    assert fitted.state()[1]["prior_ledger"]["recalibrate"] is True


@pytest.mark.parametrize("settings", [{"loss": "focal"}, {"smoothing": 0.1}])
def test_other_losses_take_no_soft_targets(settings):
    rows = synthetic_rows((20, 10))
    with pytest.raises(UsageError, match="Only plain cross-entropy can learn soft targets"):
        member(**settings).fit(rows, FitContext(0, targets=one_hot(rows.labels)))


def test_a_fit_learns_no_target_of_its_own_fold(tmp_path):
    rows = synthetic_rows((20, 16))
    fold_of_row = np.arange(36) % 2
    sources = np.array([1, 2, 30, 31])  # rows 32 to 35 stand for copies of these
    plan = StudentPlan("small_cnn_16", 16, 1)
    settings = plan.settings
    fit_member = MemberPlan(name="student", type="cnn_tuned", settings=settings, backbone=BackboneSettings())
    train, n_rows = rows, 32
    targets = one_hot(rows.labels[:n_rows]) * 0.5 + 0.25

    def scores(fold: int, changed: np.ndarray) -> bytes:
        fit = Fit(fit_member, fold, 0, "", tmp_path / "fit.npz")
        given = targets.copy()
        given[changed] = given[changed, ::-1]
        return run_fit(fit, train, rows, fold_of_row[:n_rows], "cpu", sources, given).scores.tobytes()

    nothing = np.array([], dtype=np.int64)
    mine, others = np.flatnonzero(fold_of_row[:n_rows] == 1), np.flatnonzero(fold_of_row[:n_rows] == 0)
    assert scores(1, mine) == scores(1, nothing)
    assert scores(1, others) != scores(1, nothing)
    assert scores(FINAL, mine) != scores(FINAL, nothing)


def test_a_copy_learns_the_target_of_its_source(tmp_path, monkeypatch):
    rows = synthetic_rows((20, 16))
    n_rows, sources = 32, np.array([1, 2, 30, 31])
    fold_of_row = np.arange(n_rows) % 2
    seen = {}

    def fit(self, fit_rows, context):
        seen.update(positions=fit_rows.positions, targets=context.targets)
        return self

    monkeypatch.setattr(TunedCnn, "fit", fit)
    monkeypatch.setattr(TunedCnn, "score", lambda self, scored: np.zeros((len(scored), 1), dtype=np.float32))
    monkeypatch.setattr("workflow.training.train.map_quantiles", lambda *_: None)
    settings = StudentPlan("small_cnn_16", 16, 1).settings
    plan = MemberPlan(name="student", type="cnn_tuned", settings=settings, backbone=BackboneSettings())
    targets = np.stack([np.arange(n_rows), -np.arange(n_rows)], axis=1).astype(np.float32)
    run_fit(Fit(plan, 1, 0, "", tmp_path / "fit.npz"), rows, rows, fold_of_row, "cpu", sources, targets)
    # Rows of fold 0, and the copies of rows 2 and 30, which stand at 33 and 34.
    assert seen["positions"].tolist() == [*range(0, n_rows, 2), 33, 34]
    assert seen["targets"][:, 0].tolist() == [*range(0, n_rows, 2), 2, 30]
