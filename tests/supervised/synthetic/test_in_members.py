"""Made-up rows in members: what is fitted on which rows, the ledger, files kept, refusals."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from contracts.errors import DataError, UsageError
from contracts.member import FitContext
from features.settings import BackboneSettings
from supervised.head import HeadCnn
from supervised.labels import early_stopping_split
from supervised.settings import CnnSettings
from supervised.synthetic.settings import ten_synthetic_models
from supervised.whole_cnn.tuned import TunedCnn
from tests.rows import scrambled, synthetic_rows
from tests.supervised.synthetic.conftest import SMALL
from workflow.run.fits import Fit
from workflow.settings.documents import validated
from workflow.settings.recipe import MemberPlan, Recipe, load_recipe_document, plan_members
from workflow.settings.registry import settings_class
from workflow.training.train import run_fit

BACKBONE = BackboneSettings(name="test_resnet", weights="random", image_size=32)
FULL = {"tune": "full", "image_size": 32, "epochs": 1, "batch_size": 16, "synthetic": SMALL}


def test_a_head_learns_from_made_up_rows_beside_the_real_ones():
    rows = synthetic_rows((60, 12))
    settings = CnnSettings(synthetic={"space": "features", "cap": 0.5})
    member = HeadCnn(settings).fit(rows, FitContext(0))
    plain = HeadCnn(CnnSettings()).fit(rows, FitContext(0))
    # The standardisation is that of the real rows.
    assert np.array_equal(member.state()[0]["mean"], plain.state()[0]["mean"])
    assert not np.array_equal(member.score(rows), plain.score(rows))
    ledger = member.state()[1]["prior_ledger"]
    assert ledger["trained"] == pytest.approx([60 / 72, 12 / 72])
    assert ledger["effective"] == pytest.approx([60 / 90, 30 / 90])
    assert ledger["recalibrate"]
    assert (member.state()[0]["correction"] == 0).all()


def test_a_sampler_draws_from_real_and_made_up_rows():
    rows = synthetic_rows((60, 12))
    for sampler in ("undersample", "square_root"):
        settings = CnnSettings(synthetic={"space": "features", "cap": 0.5}, sampler={"kind": sampler})
        ledger = HeadCnn(settings).fit(rows, FitContext(0)).state()[1]["prior_ledger"]
        expected = {"undersample": [0.5, 0.5], "square_root": [2**0.5 / (1 + 2**0.5), 1 / (1 + 2**0.5)]}
        assert ledger["effective"] == pytest.approx(expected[sampler], abs=0.02)
        assert ledger["trained"] == pytest.approx([60 / 72, 12 / 72])


def test_a_whole_cnn_keeps_a_sheet_and_the_facts():
    kept, sentences = {}, []
    rows = synthetic_rows((50, 12))
    context = FitContext(0, report=sentences.append, keep=kept.__setitem__)
    member = TunedCnn(CnnSettings(**FULL), BACKBONE).fit(rows, context)
    assert set(kept) == {"generated.png", "generated.json"}
    assert Image.open(io.BytesIO(kept["generated.png"])).format == "PNG"
    facts = json.loads(kept["generated.json"])
    fit, _ = early_stopping_split(rows.labels, rows.groups, member.settings.validation_share, 0)
    real = np.bincount(rows.labels[fit])
    assert facts["rows"] == real.tolist()
    assert facts["generated"] == [0, real[0] - real[1]]
    ledger = member.state()[1]["prior_ledger"]
    assert ledger["trained"] == pytest.approx((real / real.sum()).tolist())
    assert ledger["effective"] == pytest.approx([0.5, 0.5])
    assert ledger["recalibrate"]
    assert any("images made by ae and smote" in sentence for sentence in sentences)
    # What is deployed is the classifier alone.
    plain = TunedCnn(CnnSettings(**{**FULL, "synthetic": None}), BACKBONE).fit(rows, FitContext(0))
    assert member.state()[0].keys() == plain.state()[0].keys()


def test_the_autoencoder_never_sees_rows_that_decide_when_to_stop():
    rows = synthetic_rows((50, 12))
    _, stop = early_stopping_split(rows.labels, rows.groups, 0.15, 0)
    sheets = []
    for each in (rows, scrambled(rows, stop)):
        context = FitContext(0, keep=lambda name, content: sheets.append((name, content)))
        TunedCnn(CnnSettings(**FULL), BACKBONE).fit(each, context)
    assert sheets[:2] == sheets[2:]


def test_generated_images_are_brought_to_the_cnns_own_size():
    TunedCnn(CnnSettings(**{**FULL, "image_size": 48}), BACKBONE).fit(synthetic_rows((40, 12)), FitContext(0))


def test_too_few_rows_to_make_up_others():
    rows = synthetic_rows((30, 1))
    with pytest.raises(DataError, match="smote: class 1 has 1 training images, but at least 2 are needed"):
        HeadCnn(CnnSettings(synthetic={"space": "features"})).fit(rows, FitContext(0))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"synthetic": {"space": "images"}},
            "synthetic.space=images does not work with tune=head, which learns from features; "
            "set synthetic.space=features, or tune=full",
        ),
        (
            {"tune": "full", "synthetic": {"space": "features"}},
            "synthetic.space=features does not work with tune=full, which learns from images; "
            "set synthetic.space=images, or tune=head",
        ),
        (
            {"synthetic": {"space": "features", "model": "vae", "epochs": 3}},
            "epochs, model: no effect with space=features; leave out, or set space=images",
        ),
        (
            {"tune": "full", "synthetic": {"modle": "vae"}},
            "unknown key 'synthetic.modle'. Did you mean 'model'?",
        ),
    ],
)
def test_settings_that_cannot_be_are_a_sentence(given, sentence):
    with pytest.raises(UsageError) as refused:
        validated(CnnSettings, given, "member m")
    assert sentence in str(refused.value)


def test_the_recipe_holds_the_ten():
    document, where = load_recipe_document("deep_smote_ten")
    plans = {plan.name: plan for plan in plan_members(validated(Recipe, document, where))}
    for name, settings in ten_synthetic_models().items():
        assert plans[name].settings.synthetic == settings.model_copy(update={"epochs": 12, "width": 8})
        # What differs from the baseline is how rows are made up, and that four times the rows are passed
        # over a quarter as often.
        made, baseline = plans[name].settings, plans["cnn"].settings
        assert made.epochs * 4 == baseline.epochs
        assert made.model_copy(update={"synthetic": None, "epochs": baseline.epochs}) == baseline
    made_up = {name for name, plan in plans.items() if plan.settings.synthetic is not None}
    assert made_up == set(ten_synthetic_models())


def test_a_fit_leaves_the_sheet_beside_its_cached_result(tmp_path):
    settings = settings_class("cnn_deep_smote")(**FULL)
    plan = MemberPlan(name="made", type="cnn_deep_smote", settings=settings, backbone=BACKBONE)
    fit = Fit(plan, 1, 0, "key", tmp_path / "members" / "made" / "fold-1.npz")
    rows = synthetic_rows((60, 20))
    run_fit(fit, rows, rows, np.arange(80) % 3, "cpu")
    names = sorted(path.name for path in fit.path.parent.iterdir())
    assert names == ["fold-1-generated.json", "fold-1-generated.png"]
