"""The learning curve of a run: which rows its refits see, where its figures stand, and what is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts.files import read_json, write_json
from tests.conftest import Outcome, Run
from tests.pictures import write_two_classes
from workflow.checking.check import check
from workflow.comparing.learning_curve import learning_curve
from workflow.run import state
from workflow.run.fits import FINAL
from workflow.settings.config import RunOptions
from workflow.training.dry_run import dry_run
from workflow.training.train import FitWork


def options_of(run: Run) -> RunOptions:
    return RunOptions(str(run.dataset), recipe=str(run.recipe), runs=run.runs)


def opened(run: Run) -> state.Run:
    return state.Run.open(options_of(run))


def few_draws(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("workflow.comparing.learning_curve.MOST_DRAWS", 2)
    patch.setattr("workflow.comparing.learning_curve.FEWEST_DRAWS", 2)


@pytest.fixture(scope="module")
def curved(fitted: tuple[Run, Outcome], tmp_path_factory: pytest.TempPathFactory):
    """A run after ``ensemble`` with its curve, and the rows that each refit learnt from and scored."""
    run = fitted[0].copy(tmp_path_factory.mktemp("curved"))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        real = FitWork.result

        def watched(work, fit):
            seen.append((fit, work.data))
            return real(work, fit)

        patch.setattr(FitWork, "result", watched)
        few_draws(patch)
        document = learning_curve(opened(run))
    return run, document, seen


def test_all_labels_give_the_figure_of_the_results_table(curved, fitted):
    _, document, _ = curved
    row = next(row for row in fitted[1].json["rows"] if row["name"] == "ensemble")
    for name in ("average_precision", "auroc"):
        assert document["sizes"][-1][name]["values"] == pytest.approx([row[name]] * document["draws"])
        assert document["next"][name]["now"] == pytest.approx(row[name])


def test_sizes_and_members(curved):
    _, document, _ = curved
    assert [size["groups"] for size in document["sizes"]] == [3, 6, 9, 12]
    assert [size["images"] for size in document["sizes"]] == [3, 6, 9, 12]
    assert document["refitted"] == ["cnn", "cnn_weighted"]
    assert document["members"] == ["patchcore", "deep_svdd", "cnn", "cnn_weighted"]
    assert document["draws"] == 2
    assert all(len(size["auroc"]["values"]) == 2 for size in document["sizes"])


def test_refits_keep_the_majority_and_learn_from_no_other_minority_row(curved):
    run, document, seen = curved
    data = opened(run).data
    majority = {row.path for row in data.train if row.label == "fine"}
    fold_of = {row.path: fold for row, fold in zip(data.train, data.fold_of_row.tolist(), strict=True)}
    assert len(seen) == document["draws"] * 3 * 2 * 4  # sizes below all, members, folds and the final fit
    subsets = []
    for fit, part in seen:
        folds = dict(zip([row.path for row in part.train], part.fold_of_row.tolist(), strict=True))
        assert folds.items() <= fold_of.items()
        assert majority <= folds.keys()
        if fit.fold == FINAL:
            subsets.append(folds.keys() - majority)
        else:
            # All rows of the fold are scored, those of the subset and those beyond it.
            assert {path for path, fold in fold_of.items() if fold == fit.fold} <= folds.keys()
    for fit, part in seen:
        if fit.fold != FINAL:
            learnt = {path for path, fold in fold_of.items() if fold != fit.fold} & {
                r.path for r in part.train
            }
            assert any(learnt - majority <= subset for subset in subsets)
    # Of one draw, each subset lies in the next.
    for small, large in zip(subsets[:1], subsets[2:3], strict=True):
        assert len(small) == 3
        assert small < large


def test_refits_leave_the_run_as_it_was(curved, fitted):
    assert curved[0].fit_bytes() == fitted[0].fit_bytes()


def test_an_interrupted_curve_goes_on_and_a_kept_one_is_not_made_again(curved, monkeypatch):
    run, document, _ = curved
    path = run.folder / "learning_curve.json"
    whole = read_json(path)
    left = dict(list(whole["figures"].items())[:-2])
    write_json(path, {"key": whole["key"], "figures": left})
    few_draws(monkeypatch)
    refits = []
    real = FitWork.result
    monkeypatch.setattr(FitWork, "result", lambda work, fit: refits.append(fit) or real(work, fit))
    again = learning_curve(opened(run))
    assert 0 < len(refits) <= 2 * 2 * 4
    assert {**again, "seconds": 0} == {**document, "seconds": 0}
    refits.clear()
    assert learning_curve(opened(run)) == again
    assert not refits


@pytest.mark.parametrize("command", [check, dry_run])
def test_check_and_dry_run_say_it_of_this_run_only(curved, command, capsys):
    run, document, _ = curved
    options = options_of(run)
    assert command(options)["learning_curve"]["sentence"] == document["sentence"]
    assert document["sentence"] in " ".join(capsys.readouterr().err.split())
    assert command(replace(options, seed=5))["learning_curve"] is None
    assert document["sentence"] not in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("count", "sizes"), [(3, []), (4, [2, 3, 4])])
def test_of_a_handful_of_labels(count, sizes, tiny, tmp_path, monkeypatch):
    few_draws(monkeypatch)
    write_two_classes(tmp_path / "few", 12, count)
    run = replace(tiny, dataset=tmp_path / "few", runs=tmp_path / "runs")
    tiny.give_traced_backbones(tmp_path / "runs")
    assert run.command("train-all").code == 0
    document = learning_curve(opened(run))
    assert [size["groups"] for size in document["sizes"]] == sizes
    if not sizes:
        assert "takes at least 4 independent ones, and there are 3" in document["sentence"]


def test_members_that_learn_from_pixels_are_left_out_and_named(trained, tmp_path):
    run = opened(trained)
    plan = run.config.member("cnn_weighted")
    slow = plan.model_copy(update={"settings": plan.settings.model_copy(update={"tune": "full"})})
    alone = state.Run(replace(run.config, members=(run.config.member("patchcore"), slow)))
    alone.trained = {
        replace(fit, member=slow) if fit.member == plan else fit: result
        for fit, result in run.trained.items()
        if fit.member.name in {"patchcore", "cnn_weighted"}
    }
    alone.data, alone.key = run.data, "another"
    document = learning_curve(alone)
    assert document["left_out"] == {"cnn_weighted": "learns from pixels"}
    assert "cnn_weighted learns from pixels" in document["sentence"]
