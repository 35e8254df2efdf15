"""``report`` as users call it, and the page as browsers show it."""

from __future__ import annotations

import re
import shutil

import pytest

from contracts.files import read_json, write_json
from evaluation.metrics import metrics_for
from tests.conftest import Outcome, Run
from tests.pages import Page, measure_in_browser, scale_in_print
from tests.pictures import write_two_classes

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def reported(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Outcome]:
    """A copy of ``trained`` after ``compare`` and ``report --json``."""
    run = trained.copy(tmp_path_factory.mktemp("reported"))
    assert run.command("compare").code == 0
    outcome = run.command("report", "--json")
    assert outcome.code == 0, outcome.err
    return run, outcome


@pytest.fixture(scope="module")
def page(reported: tuple[Run, Outcome]) -> Page:
    return Page((reported[0].folder / "report.html").read_text())


def test_says_where_it_is_and_is_small(reported):
    run, outcome = reported
    path = run.folder / "report.html"
    assert outcome.json == {"path": str(path), "bytes": path.stat().st_size}
    assert 100_000 < path.stat().st_size < 15_000_000


def test_equal_runs_give_equal_bytes(reported, tmp_path):
    run, _ = reported
    # Where it is written is part of its last command line, and of nothing else.
    target = tmp_path / "deeper" / "mine.html"
    assert run.command("report", "--output", target).code == 0
    mine = target.read_text().replace(f" --output {target}", "")
    assert mine == (run.folder / "report.html").read_text()


def test_nothing_comes_from_elsewhere_and_nothing_runs(page):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:image/", "#")), value
    policy = next(a["content"] for tag, a in page.tags if "http-equiv" in a)
    assert "default-src 'none'" in policy


def test_every_picture_has_words_and_every_link_its_target(page):
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    n_models = sum(a.get("class") == "confusion two" for tag, a in page.tags if tag == "table")
    assert n_models in {1, 2, 3}  # equal ones are drawn once
    # Six of the comparison and its curves, two learning curves, and a histogram for each model.
    assert sum("svg" in a["src"] for a in images) == 8 + n_models
    assert all(len(a["alt"]) > 10 for a in images)
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"].removeprefix("#") for tag, a in page.tags if tag == "a"} <= ids


def test_says_what_more_labels_would_buy(reported, page):
    run, outcome = reported
    curve = read_json(run.folder / "learning_curve.json")["document"]
    assert curve["sentence"] in page.text
    assert curve["sentence"] in outcome.said
    assert "Average precision over labelled images" in page.text


def test_tells_what_compare_found(reported, page):
    run, _ = reported
    comparison = read_json(run.folder / "comparison.json")
    for row in comparison["rows"]:
        assert row["name"].replace("_", "_ ") in page.text or row["name"] in page.text
        for metric in metrics_for(2):
            low, high = row["intervals"][metric]
            assert f"{row[metric]:.3f} {low:.3f}–{high:.3f}" in page.text
    better = sum(row["verdict"] == "better" for row in comparison["rows"])
    compared = sum(row["verdict"] is not None for row in comparison["rows"])
    assert f"{better} of {compared} shown better" in page.text or f"None of {compared} was shown" in page.text
    assert "0 groups shared by training and test rows (checked for this report)" in page.text
    assert "0 groups shared by folds (checked for this report)" in page.text
    assert "by patchcore: the brighter" in page.text
    assert f"cli.py compare {run.dataset} --recipe {run.recipe}" in page.text
    assert "bank_size: 60" in page.text


def test_says_what_is_a_mean_over_repeats(reported, page, tmp_path):
    assert "are means over" not in page.text
    run = reported[0].copy(tmp_path)
    saved = read_json(run.folder / "comparison.json")
    write_json(run.folder / "comparison.json", {**saved, "repeats": 3})
    assert run.command("report").code == 0
    words = Page((run.folder / "report.html").read_text()).text
    assert "are means over 3 repeats of the training" in words
    assert "pictures, and the counts of decisions above show the first repeat." in words
    assert "Train seconds cover all repeats, folds and the fit" in words


def test_confusion_adds_up(page):
    cells = re.findall(r"(\d+) (found|missed|false alarms|true negatives), ", page.text)
    assert len(cells) % 4 == 0
    for start in range(0, len(cells), 4):
        counts = {name: int(count) for count, name in cells[start : start + 4]}
        assert counts["found"] + counts["missed"] == 10
        assert counts["false alarms"] + counts["true negatives"] == 10


def test_of_a_run_that_only_ensemble_finished(fitted: tuple[Run, Outcome], tmp_path):
    run, _ = fitted
    target = tmp_path / "report.html"
    outcome = run.command("report", "--output", target)
    assert outcome.code == 0, outcome.err
    words = Page(target.read_text()).text
    assert "by the anomaly map of model.onnx" in words
    assert "model.onnx (SHA-256)" in words
    assert "decisions and the probability change where the image hardly does, on 20 test images." in words
    assert "Images that moved most" in words


def test_of_some_members(trained: Run, tmp_path):
    run = trained.copy(tmp_path)
    assert run.command("compare", "--members", "cnn_weighted", "--metric", "auroc").code == 0
    assert run.command("report").code == 0
    words = Page((run.folder / "report.html").read_text()).text
    assert "No member of this run has a map of its evidence." in words
    assert "--members cnn,cnn_weighted --metric auroc" in words


def test_names_of_strangers_are_only_text(command, trained: Run, tmp_path):
    # With the backbone that is exported already, which would take longer than all the rest.
    shutil.copytree(trained.runs / "features", tmp_path / "runs" / "features")
    names = ("a & b", f"{HOSTILE.replace('/', '')}$x$")
    data = write_two_classes(tmp_path / "set", 8, 4, test=2, names=names)
    for path in [*data.glob("test/*/*.png"), *data.glob("train/*/001.png")]:
        path.rename(path.with_name(f"<img src=x onerror=alert(1)>{path.name}"))
    (data / "train" / names[0] / "<b>broken.png").write_bytes(b"no image")
    recipe = tmp_path / "two.yaml"
    recipe.write_text(
        "folds: 2\nbootstrap: 100\nthreshold: cost:1:5\n"
        "backbone: {name: test_efficientnet, weights: random, image_size: 64}\n"
        "members: {cnn: {max_iterations: 1}}\n"
    )
    options = (
        data, "--minority", names[1], "--recipe", recipe, "--runs", tmp_path / "runs",
        "-o", f"title={HOSTILE}", "-o", "source=javascript:alert(1)",
    )  # fmt: skip
    outcome = command("compare", *options)
    assert outcome.code == 0, outcome.err
    outcome = command("report", *options)
    assert outcome.code == 0, outcome.err
    page = Page((tmp_path / "runs" / "set" / "two" / "report.html").read_text())
    tags = [tag for tag, _ in page.tags]
    assert "script" not in tags
    assert "b" not in tags
    assert not [a for _, a in page.tags if "onerror" in a]
    for words in (HOSTILE, names[0], names[1], "<img src=x onerror=alert(1)>", "<b>broken.png"):
        assert words in page.text


# ---- what cannot be shown


def test_says_what_to_run_first(tiny: Run, trained: Run, tmp_path):
    outcome = trained.command("report")
    assert outcome.code == 5
    assert "nothing compared there yet. First run: python cli.py compare" in outcome.said
    nothing = Run(tiny.dataset, tiny.recipe, tmp_path / "none")
    outcome = nothing.command("report")
    assert outcome.code == 5
    assert "nothing compared there yet. First run: python cli.py compare" in outcome.said


def test_names_the_recipe_that_is_finished(reported, tmp_path):
    """Who ran `ensemble` with one recipe and asks for the report of another learns which one there is."""
    run, _ = reported
    shutil.copytree(run.folder, tmp_path / run.folder.parent.name / "other")
    outcome = Run(run.dataset, run.recipe, tmp_path).command("report")
    assert outcome.code == 5
    assert "Finished there: recipe other; for its report: python cli.py report" in outcome.said
    assert "--recipe other" in outcome.said


def test_refuses_what_does_not_fit_together(reported, tmp_path):
    run = reported[0].copy(tmp_path)
    outcome = run.command("report", "-o", "threshold=max_f1")
    assert outcome.code == 5
    assert "the comparison there is of other members or settings. Run: python cli.py compare" in outcome.said
    outcome = run.command("report", "-o", "folds=2")
    assert outcome.code == 5
    assert "trained with folds=3, but now folds=2 is asked for" in outcome.said
    outcome = run.command("report", "--output", tmp_path)
    assert outcome.code == 2
    assert "that is a folder. Name the file, such as" in outcome.said
    saved = read_json(run.folder / "comparison.json")
    saved.pop("members")
    write_json(run.folder / "comparison.json", saved)
    outcome = run.command("report")
    assert outcome.code == 5
    assert "comparison.json: cannot be read. Run again: python cli.py compare" in outcome.said


def test_an_image_that_has_gone_is_named(reported, page):
    run, _ = reported
    shown = next(a["alt"] for tag, a in page.tags if tag == "img" and a["alt"].startswith("Evidence map of"))
    gone = run.dataset / shown.removeprefix("Evidence map of ")
    away = gone.with_suffix(".away")
    written = (run.folder / "report.html").read_bytes()
    gone.rename(away)
    try:
        outcome = run.command("report")
    finally:
        away.rename(gone)
    assert outcome.code == 3
    assert f"{gone}: cannot be read: No such file or directory." in outcome.said
    assert (run.folder / "report.html").read_bytes() == written


# ---- in a browser


@pytest.fixture(scope="module")
def measured(reported, tmp_path_factory) -> dict[int, dict[str, str]]:
    return measure_in_browser(reported[0].folder / "report.html", tmp_path_factory.mktemp("browser"))


@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_never_wider_than_its_window(measured, width):
    of_width = measured[width]
    assert int(of_width["scroll"]) <= int(of_width["edge"]) <= width
    assert of_width["beyond"] == "0"
    assert of_width["dead"] == "0"
    assert int(of_width["images"]) > 20


@pytest.mark.parametrize("width", [1280, 390])
def test_no_text_sticks_out_of_its_box(measured, width):
    assert measured[width]["clipped"] == ""


def test_the_page_fits_the_paper(reported, tmp_path):
    assert scale_in_print(reported[0].folder / "report.html", tmp_path) == pytest.approx(1.0, abs=0.01)


def test_pictures_can_be_left_out(reported, tmp_path):
    run, _ = reported
    target = tmp_path / "bare.html"
    assert run.command("report", "--output", target, "--no-pictures").code == 0
    text = target.read_text()
    assert "data:image/jpeg" not in text
    assert "Pictures were left out of this page." in text
    assert "--no-pictures" in text  # in the command that makes it again
    assert "data:image/jpeg" in (run.folder / "report.html").read_text()
