"""``python -m benchmarks bank``: the curve is that of members fitted with each size by themselves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.bank import bank_sizes
from contracts.member import FitContext
from oneclass.patchcore.member import PatchCore
from tests.conftest import run_benchmark
from workflow.run.features import load_backbones
from workflow.run.prepared import load_prepared, seed_of
from workflow.settings.config import RunOptions, resolve_config


def test_sizes():
    assert bank_sizes(100) == [100]
    assert bank_sizes(1500) == [100, 200, 500, 1000, 1500]
    assert bank_sizes(2000) == [100, 200, 500, 1000, 2000]


def test_curve_of_a_run(trained):
    options = ("--recipe", trained.recipe, "--runs", trained.runs)
    outcome = run_benchmark("bank", trained.dataset, "--most", 250, *options, "--json")
    assert outcome.code == 0, outcome.err
    figures = outcome.json["figures"]
    assert [figure["size"] for figure in figures] == [100, 200, 250]
    assert "smallest bank that is certain not to lose more than 0.005 AUROC" in outcome.said

    config = resolve_config(RunOptions(str(trained.dataset), recipe=str(trained.recipe), runs=trained.runs))
    data = load_prepared(config)
    plan = config.member("patchcore")
    [loaded] = load_backbones(config, {plan.backbone}).values()
    rows = loaded.rows(data, data.train, config.decode)
    for figure in (figures[0], figures[-1]):
        settings = plan.settings.model_copy(update={"bank_size": figure["size"]})
        scores = np.empty(len(rows))
        for fold in range(3):
            held_out = data.fold_of_row == fold
            member = PatchCore(settings).fit(
                rows.subset(np.flatnonzero(~held_out)), FitContext(seed_of(0, "patchcore", fold))
            )
            scores[held_out] = member.score(rows.subset(np.flatnonzero(held_out)))[:, 0]
        assert figure["auroc"] == pytest.approx(roc_auc_score(rows.labels == 1, scores))
        assert figure["low"] <= figure["auroc"] <= figure["high"]
        assert figure["megabytes"] == pytest.approx(figure["size"] * 4 * 18 / 1e6)
        assert figure["ms_per_image"] > 0
    assert figures[-1]["difference"] == figures[-1]["difference_low"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--member", "cnn"), "member 'cnn' is a cnn. Name a patchcore with --member."),
        (("--most", "50"), "--most 50 is below the smallest bank, 100."),
        (("-o", "members.patchcore.bank_mb=1"), "name one of bank_size, bank_ratio, bank_mb, bank_ms"),
    ],
)
def test_what_cannot_be(trained, arguments, said):
    outcome = run_benchmark(
        "bank", trained.dataset, *arguments, "--recipe", trained.recipe, "--runs", trained.runs
    )
    assert outcome.code == 2
    assert said in outcome.said
