"""What members record a step, and that it comes back from the cached result."""

from __future__ import annotations

import json

import numpy as np
import pytest

from contracts.errors import MemberCollapsedError
from contracts.files import read_arrays, write_arrays
from contracts.member import FitContext
from features.settings import BackboneSettings
from oneclass.deep import sphere
from oneclass.deep.deep_svdd import DeepSVDD
from oneclass.deep.settings import DeepSVDDSettings
from supervised.settings import CnnSettings
from supervised.whole_cnn.tuned import TunedCnn
from tests.conftest import Run
from tests.rows import synthetic_rows
from workflow.run.fits import fits_of, read_result
from workflow.run.prepared import load_prepared
from workflow.settings.config import RunOptions, resolve_config

SMALL_SVDD = DeepSVDDSettings(hidden=8, embedding_dim=4, epochs=3, batch_size=16)


def curves_of(member):
    recorded = []
    member.fit(synthetic_rows(), FitContext(0, record=lambda *point: recorded.append(point)))
    names = dict.fromkeys(metric for metric, _, _ in recorded)
    return {name: [(step, value) for metric, value, step in recorded if metric == name] for name in names}


def test_tuned_cnn_records_both_losses_of_every_epoch():
    settings = CnnSettings(tune="full", image_size=32, epochs=2, batch_size=16)
    member = TunedCnn(settings, BackboneSettings(name="test_efficientnet", weights="random", image_size=64))
    curves = curves_of(member)
    assert {"training_loss", "validation_loss"} <= set(curves)
    for name in ("training_loss", "validation_loss"):
        assert [step for step, _ in curves[name]] == [1, 2]
        assert np.isfinite([value for _, value in curves[name]]).all()


def test_deep_svdd_records_the_loss_of_every_epoch():
    losses = curves_of(DeepSVDD(SMALL_SVDD))["training_loss"]
    assert [step for step, _ in losses] == [1, 2, 3]
    assert losses[-1][1] < losses[0][1]


def test_a_new_initialisation_goes_on_counting(monkeypatch):
    distinct = sphere.require_distinct_scores
    calls = []

    def collapse_once(name, scores):
        calls.append(name)
        if len(calls) == 1:
            raise MemberCollapsedError("deep_svdd: collapsed.")
        distinct(name, scores)

    monkeypatch.setattr(sphere, "require_distinct_scores", collapse_once)
    losses = curves_of(DeepSVDD(SMALL_SVDD))["training_loss"]
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("old", [False, True])
def test_curves_are_kept_in_the_cached_result_and_older_cached_results_are_read(trained: Run, tmp_path, old):
    run = trained.copy(tmp_path)
    config = resolve_config(RunOptions(str(run.dataset), recipe=str(run.recipe), runs=run.runs))
    fits = fits_of(config, load_prepared(config), (config.member("deep_svdd"),))
    path = fits[0].path
    arrays, meta = read_arrays(path)
    if old:
        del meta["curves"]
        write_arrays(path, arrays, meta)
    result = read_result(fits[0])
    assert result is not None
    if old:
        assert result.curves == {}
        assert run.command("train-all", "--json").json["fits_run"] == 0
    else:
        assert [step for step, _ in result.curves["training_loss"]] == [1, 2]
        assert json.loads(json.dumps(meta["curves"])) == {
            "training_loss": [list(point) for point in result.curves["training_loss"]]
        }
