"""From a folder of pictures to score tables, judged rules and curves; every fit is kept and used again."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from benchmarks.few_labels.draws import draw_of
from benchmarks.few_labels.sets import SetPlan, load_set, sets_named
from benchmarks.few_labels.tables import make_problems, read_problems
from benchmarks.fusion.former import former_gated, former_single, former_stack
from benchmarks.fusion.judge import SOLVED, judge, ranking_figures_of
from benchmarks.fusion.page import NOTES, Verdicts, document_of, write_page
from benchmarks.fusion.rules import BEST_MEMBER, CALIBRATED_BASELINE, ENSEMBLE, FORMER, RULES
from benchmarks.label_curve.measure import measure
from benchmarks.label_curve.page import write_page as write_curve_page
from benchmarks.label_curve.summary import Curves, coverage_of, validity_of
from contracts.errors import UsageError
from contracts.member import FitContext
from ensemble.stacking.quality import log_loss
from ensemble.stacking.stacker import cross_fit
from ensemble.stacking.training_scores import TrainingScores
from tests.conftest import run_benchmark
from tests.pictures import write_two_classes
from workflow.run.features import load_backbones, rows_of
from workflow.run.prepared import PreparedData, seed_of
from workflow.settings.registry import build_member

MEMBERS = ("patchcore", "knn", "cnn")
PLAN = SetPlan(
    "tiny",
    "tiny",
    "odd",
    (
        "folds=3",
        "views=none",
        "backbone={name: test_efficientnet, weights: random, image_size: 64}",
        "members.patchcore={bank_size: 40, candidate_patches: 200, pca_dim: 8}",
        "members.cnn={max_iterations: 20}",
    ),
    folder=True,
)
COUNTS = (0, 1, 2, 5)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    data = tmp_path_factory.mktemp("few")
    write_two_classes(data / "tiny", 60, 20)
    cache = data / "cache"
    return data, cache, list(make_problems([PLAN], data, cache, cache / "tables", COUNTS, 1, MEMBERS))


def test_one_class_members_are_fitted_once_for_all_numbers_of_labels(made):
    data, cache, problems = made
    assert [problem.n_labels for problem in problems] == [*COUNTS]
    fits = {name: sorted((cache / "fits" / name).glob("*.npz")) for name in MEMBERS}
    assert {name: len(found) for name, found in fits.items()} == {"patchcore": 1, "knn": 1, "cnn": 3}
    few, more = problems[0].oof, problems[-1].oof
    assert few.member_names == ("patchcore", "knn")
    assert set(more.member_names) == set(MEMBERS)
    assert (few.scores[:, 0] == more.scores[: len(few.labels), 0]).all()
    before = [path.stat().st_mtime_ns for found in fits.values() for path in found]
    # As after a kill: a fit is torn, the tables are gone.
    torn = fits["cnn"][0]
    torn.write_bytes(torn.read_bytes()[:100])
    again = list(make_problems([PLAN], data, cache, cache / "tables", COUNTS, 1, MEMBERS))
    after = [path.stat().st_mtime_ns for found in fits.values() for path in found]
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    for one, other in zip(problems, again, strict=True):
        np.testing.assert_array_equal(one.oof.scores, other.oof.scores)
        np.testing.assert_array_equal(one.test.scores, other.test.scores)


def test_the_only_minority_image_has_no_supervised_score(made):
    single = made[2][1].oof
    assert single.labels.sum() == 1
    supervised = single.scores[:, single.member_names.index("cnn")]
    held_out = single.fold_of_row == single.fold_of_row[single.labels == 1]
    assert (np.isnan(supervised) == held_out).all()
    for name in ("patchcore", "knn"):
        assert not np.isnan(single.scores[:, single.member_names.index(name)]).any()


def test_scores_are_those_of_members_that_did_not_see_the_row(made):
    data, cache, problems = made
    of = load_set(PLAN, data, cache, MEMBERS)
    draw = draw_of(of.labels, of.groups, 10, 0)
    train = np.concatenate([draw.majority, draw.candidates[:5]])
    prepared = PreparedData(of.manifest, [], [], np.empty(0, dtype=np.int64))
    oof, test = problems[-1].oof, problems[-1].test
    assert oof.row_ids.tolist() == [of.rows[i].path for i in train]
    assert test.row_ids.tolist() == [of.rows[i].path for i in draw.test]
    plans = {plan.name: plan for plan in of.config.members}
    [loaded] = load_backbones(of.config, {plans["cnn"].backbone}).values()
    rows = rows_of(loaded.store, prepared, [of.rows[i] for i in train], of.config.decode)
    for name in MEMBERS:
        column = oof.member_names.index(name)
        plan, held_out = plans[name], oof.fold_of_row == 1
        member = build_member(plan.type, plan.settings, plan.backbone)
        member.fit(rows.subset(np.flatnonzero(~held_out)), FitContext(seed_of(0, name, 1)))
        expected = member.score(rows.subset(np.flatnonzero(held_out)))[:, 0]
        np.testing.assert_allclose(oof.scores[held_out, column], expected, rtol=1e-5)


def test_rules_are_judged_and_what_people_wrote_stays(made, tmp_path):
    _, cache, _ = made
    problems = read_problems(cache / "tables", (2, 5))
    judged = judge(problems, RULES, tmp_path / "figures")
    assert set(judged) == {*RULES, BEST_MEMBER}
    again = judge(problems, RULES, tmp_path / "figures")
    assert judged == again
    verdicts = Verdicts(problems, judged)
    assert verdicts.difference(FORMER, FORMER).mean == 0.0
    figures = document_of(verdicts)
    assert figures["problems"] == 2
    page = tmp_path / "fusion.md"
    write_page(verdicts, RULES, "python", page)
    page.write_text(page.read_text().replace("Nothing yet.", "A rule that failed."))
    write_page(verdicts, RULES, "python", page)
    text = page.read_text()
    assert "A rule that failed." in text
    assert text.count(NOTES) == 1
    assert all(f"| {name} |" in text or f"| **{name}** |" in text for name in RULES)


def test_the_figures_of_a_ranking():
    labels = np.array([0, 0, 1, 1])
    assert ranking_figures_of(labels, np.array([0.0, 2.0, 1.0, 3.0])).log_error == pytest.approx(np.log(0.25))
    assert ranking_figures_of(labels, np.arange(4.0)).log_error == pytest.approx(np.log(SOLVED))


def test_the_former_rule_keeps_its_stack_only_where_it_is_not_worse(made):
    training = TrainingScores.from_table(made[2][-1].oof)
    kept = set()
    for seed in range(4):
        scores = np.random.default_rng(seed).normal(size=training.scores.shape)
        scores[:, 0] += 3.0 * training.labels
        columns = tuple(replace(column, meaning="logit") for column in training.columns)
        noisy = replace(training, scores=scores, columns=columns)
        chosen = former_gated(noisy)
        weights = chosen(noisy).weights[:, 0]
        assert (weights >= 0.0).all()
        stack, alone = (
            log_loss(cross_fit(noisy, method), noisy.labels)
            for method in (former_stack, partial(former_single, column=0))
        )
        kept.add(chosen is former_stack)
        if stack > alone + 1e-9:
            assert np.flatnonzero(weights).tolist() == [0]
    assert kept == {True, False}


def test_curves_of_the_same_problems(made, tmp_path):
    _, cache, _ = made
    problems = read_problems(cache / "tables", COUNTS)
    curves = Curves(measure(problems, tmp_path / "curve"))
    assert curves.data_sets == ["tiny"]
    assert curves.counts("tiny") == [*COUNTS]
    for document in curves.documents:
        assert not document["refused"]
        assert 0.0 <= document["auroc"]["ensemble"] <= 1.0
        assert list(document["p_normal"]["share"]) == ["0.01", "0.02", "0.05", "0.1", "0.2"]
    # 36 normal images support no alpha below 1 / 37.
    assert [row.alpha for row in validity_of(curves.documents)] == [0.05, 0.1, 0.2]
    for row in coverage_of(curves.documents, "auroc"):
        assert 0 <= row.inside <= row.cases == 1
        assert 0.0 < row.width < 1.0
    page = tmp_path / "results" / "label-curve.md"
    write_curve_page(curves, "python", page)
    assert (tmp_path / "images" / "label-curve.svg").read_text().startswith("<?xml")
    assert "| tiny | 0 |" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("fusion", "--sets", "elvp"), 2, "--sets elvp: not known."),
        (("fusion", "--rules", "men", "--no-make"), 2, "--rules men: not known."),
        (("fusion", "--no-make"), 5, "no score tables there"),
        (("label-curve", "--no-make"), 5, "no score tables there"),
    ],
)
def test_mistakes(arguments, code, said, tmp_path):
    outcome = run_benchmark(*arguments, "--cache", tmp_path)
    assert outcome.code == code
    assert said in outcome.said


def test_sets_by_the_name_before_the_colon():
    assert len(sets_named(["neu"])) == 6
    assert [plan.name for plan in sets_named(["neu:crazing", "elpv"])] == ["neu:crazing", "elpv"]
    with pytest.raises(UsageError):
        sets_named(["nue"])
    assert {ENSEMBLE, CALIBRATED_BASELINE} <= set(RULES)
