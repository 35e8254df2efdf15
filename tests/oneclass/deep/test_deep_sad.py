"""Deep SAD: what labelled minority rows do, and that nothing else parts it from Deep SVDD."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from contracts.member import FitContext
from oneclass.deep.deep_sad import DeepSAD, DeepSADPixels
from oneclass.deep.deep_svdd import DeepSVDD
from oneclass.deep.deep_svdd_pixels import DeepSVDDPixels
from oneclass.deep.rows import SphereBatch
from oneclass.deep.settings import (
    DeepSADPixelsSettings,
    DeepSADSettings,
    DeepSVDDPixelsSettings,
    DeepSVDDSettings,
)
from oneclass.deep.sphere import _SphereTraining
from tests.rows import scrambled, synthetic_rows

CELLS = {"hidden": 16, "embedding_dim": 8, "epochs": 6, "batch_size": 16}
PIXELS = {"filters": (4, 4), "embedding_dim": 8, "pretrain_epochs": 1, "epochs": 2, "batch_size": 16}
FORMS = [
    (DeepSAD, DeepSADSettings, DeepSVDD, DeepSVDDSettings, CELLS),
    (DeepSADPixels, DeepSADPixelsSettings, DeepSVDDPixels, DeepSVDDPixelsSettings, PIXELS),
]
both_forms = pytest.mark.parametrize(
    ("sad", "sad_settings", "svdd", "svdd_settings", "small"), FORMS, ids=["cells", "pixels"]
)


class Line(torch.nn.Module):
    """A network that embeds a number as itself, around a centre at 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("radius", torch.zeros(()))

    def squared_distance(self, inputs):
        return (self.weight * inputs - 1.0).square()


@pytest.mark.parametrize("eta", [1.0, 3.0])
def test_loss_is_the_papers_equation_7(eta):
    training = _SphereTraining(Line(), DeepSADSettings(eta=eta), 0, lambda *point: None)
    inputs = torch.tensor([0.5, 2.0, 4.0, 1.0])
    labels = torch.tensor([False, False, True, True])
    loss = training.training_step(SphereBatch(inputs, labels), 0)
    distances = [0.25, 1.0, 9.0, 0.0]
    expected = (distances[0] + distances[1] + eta / (9.0 + 1e-6) + eta / (0.0 + 1e-6)) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@both_forms
def test_without_minority_rows_it_is_deep_svdd(sad, sad_settings, svdd, svdd_settings, small):
    rows = synthetic_rows((30, 15))
    majority = rows.subset(np.flatnonzero(rows.labels == 0))
    one = sad(sad_settings(**small)).fit(majority, FitContext(2))
    other = svdd(svdd_settings(**small)).fit(rows, FitContext(2))
    assert np.array_equal(one.score(rows), other.score(rows))


@both_forms
def test_only_the_network_follows_from_the_minority(sad, sad_settings, svdd, svdd_settings, small):
    """Centre and input statistics are the majority's; the radius too, once the network is given."""
    rows = synthetic_rows((30, 15))
    minority = rows.positions[rows.labels == 1]
    [one, other] = [
        sad(sad_settings(**small)).fit(r, FitContext(2)).state()[0] for r in (rows, scrambled(rows, minority))
    ]
    same = {name for name in one if np.array_equal(one[name], other[name])}
    assert {"centre", *({"mean", "std"} if "mean" in one else {"low", "high"})} <= same
    assert any(name not in same for name in one if "weight" in name)


@both_forms
def test_minority_rows_are_pushed_away(sad, sad_settings, svdd, svdd_settings, small):
    """Images of the minority that nobody saw move outwards, in units of the majority's distances."""
    rows, new = synthetic_rows((40, 30), strength=0.5), synthetic_rows((30, 30), seed=1, strength=0.5)

    def far_away(member):
        scores = member.fit(rows, FitContext(2)).raw_score(new)[:, 0]
        return scores[new.labels == 1].mean() / scores[new.labels == 0].mean()

    longer = {**small, "epochs": 12}
    assert far_away(sad(sad_settings(**longer, eta=5.0))) > 1.05 * far_away(svdd(svdd_settings(**longer)))


@pytest.mark.parametrize("settings", [DeepSADSettings, DeepSADPixelsSettings])
def test_there_is_no_soft_boundary_with_labels(settings):
    with pytest.raises(ValidationError, match="one_class"):
        settings(objective="soft_boundary")
