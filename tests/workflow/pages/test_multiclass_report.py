"""``report`` on three classes, with names that would like to be markup."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from contracts.files import read_json
from tests.conftest import Run, run_command
from tests.pages import Page, measure_in_browser, scale_in_print
from tests.pictures import write_pictures

HOSTILE = "<script>alert(1)<script>$x$"
NAMES = (HOSTILE, "a & b", "<img src=x onerror=alert(1)>")  # as a listing sorts them, minority last
COUNTS = {"train": (12, 8, 5), "test": (4, 3, 2)}
RECIPE = """\
folds: 2
bootstrap: 100
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  patchcore: {bank_size: 20, candidate_patches: 100, pca_dim: 4}
  cnn: {max_iterations: 3}
"""


@pytest.fixture(scope="module")
def folder(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder after ``compare`` and ``report``."""
    root = tmp_path_factory.mktemp("three")
    # With the backbone that is exported already, which would take longer than all the rest.
    shutil.copytree(trained.runs / "features", root / "runs" / "features")
    for split, counts in COUNTS.items():
        for seed, (name, count) in enumerate(zip(NAMES, counts, strict=True)):
            write_pictures(root / "set" / split / name, count, seed > 0, 10 * seed + (split == "test"))
    (root / "few.yaml").write_text(RECIPE)
    folder = root / "runs" / "set" / "few"
    for command in ("compare", "report"):
        outcome = run_command(command, *options_of(folder))
        assert outcome.code == 0, outcome.err
    return folder


def options_of(folder: Path) -> tuple[object, ...]:
    root = folder.parents[2]
    return (root / "set", "--minority", NAMES[2], "--recipe", root / "few.yaml", "--runs", root / "runs")


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text())


def test_nothing_comes_from_elsewhere_and_names_are_only_text(page):
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:image/", "#")), value
        # The only styles are the shades of cells.
        assert re.fullmatch(r"--dark: \d+\.\d%", attributes.get("style") or "--dark: 0.0%")
    for name in NAMES:
        assert name in page.text
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"].removeprefix("#") for tag, a in page.tags if tag == "a"} <= ids


def test_every_class_has_its_curve_and_every_picture_its_words(page):
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    n_models = sum(a.get("class") == "confusion" for tag, a in page.tags if tag == "table")
    assert n_models in {1, 2, 3}  # equal ones are drawn once
    # Differences, a PR figure a class, reliability, two learning curves, a histogram a model.
    assert sum("svg" in a["src"] for a in images) == 1 + 3 + 1 + 2 + n_models
    assert all(len(a["alt"]) > 10 for a in images)
    curves = [a["alt"] for a in images if a["alt"].startswith("Precision over recall of")]
    assert [next(name for name in NAMES if f"“{name}”" in alt) for alt in curves] == [*reversed(NAMES)]


def test_tells_what_compare_found(folder, page):
    comparison = read_json(folder / "comparison.json")
    assert comparison["metric"] == "balanced_accuracy"
    rows = {row["name"]: row for row in comparison["rows"]}
    for row in rows.values():
        for metric in row["intervals"]:
            low, high = row["intervals"][metric]
            assert f"{row[metric]:.3f} {low:.3f}–{high:.3f}" in page.text
    for name, (own, low, high) in rows["ensemble"]["per_class_recall"].items():
        baseline = rows["calibrated_baseline"]["per_class_recall"][name]
        change = rows["ensemble"]["per_class_recall_minus_baseline"][name]
        said = f"{baseline[0]:.3f} {baseline[1]:.3f}–{baseline[2]:.3f} {own:.3f} {low:.3f}–{high:.3f} "
        said += f"{change[0]:+.3f} {change[1]:+.3f} to {change[2]:+.3f}"
        assert said in page.text
    assert "Cost and decision curves weigh one kind of error against one other and are left out" in page.text
    assert "repeats of the training" not in page.text
    assert "the brighter, the more anomalous" in page.text


def test_confusion_adds_up_and_agrees_with_the_recalls(folder, page):
    comparison = read_json(folder / "comparison.json")
    recalls = {row["name"]: row["per_class_recall"] for row in comparison["rows"]}["ensemble"]
    start = page.text.rindex("truth \\ decision")
    cells = re.findall(r"(\d+) (\d+\.\d) %", page.text[start:])[:9]
    counts = [int(count) for count, _ in cells]
    for k, name in enumerate(NAMES):
        assert sum(counts[3 * k : 3 * k + 3]) == COUNTS["test"][k]
        assert counts[4 * k] / COUNTS["test"][k] == pytest.approx(recalls[name][0])
        assert float(cells[4 * k][1]) == pytest.approx(100 * recalls[name][0], abs=0.06)


def test_of_many_classes_the_commonest_mistakes_stand_for_the_matrix(folder, page, tmp_path, monkeypatch):
    monkeypatch.setattr("reporting.page.MOST_COLUMNS", 2)
    outcome = run_command("report", *options_of(folder), "--output", tmp_path / "many.html")
    assert outcome.code == 0, outcome.err
    many = Page((tmp_path / "many.html").read_text())
    assert "truth \\ decision" not in many.text
    start = page.text.rindex("truth \\ decision")
    cells = [int(count) for count, _ in re.findall(r"(\d+) (\d+\.\d) %", page.text[start:])[:9]]
    told = many.text[many.text.rindex("most often taken for") :]
    for k, name in enumerate(NAMES):
        row, of_class = cells[3 * k : 3 * k + 3], COUNTS["test"][k]
        wrong = sorted((-row[j], j) for j in range(3) if j != k and row[j])
        taken = ", ".join(f"{NAMES[j]} {-n} ({-100 * n / of_class:.1f} %)" for n, j in wrong) or "none"
        assert f"{name} {of_class} {100 * row[k] / of_class:.1f} % {taken}" in told


def test_wrong_pictures_say_what_was_decided_and_what_is_true(page):
    found = re.findall(
        r"“([^”]+)” (?:[<>] )?\d\.\d{4}(, truly “([^”]+)” (?:[<>] )?\d\.\d{4})? (\S+)/", page.text
    )
    assert len(found) >= 3
    for decided, wrong, truth, _ in found:
        assert decided in NAMES
        assert not wrong or (truth in NAMES and truth != decided)


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory) -> dict[int, dict[str, str]]:
    return measure_in_browser(folder / "report.html", tmp_path_factory.mktemp("browser"))


@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_never_wider_than_its_window(measured, width):
    of_width = measured[width]
    assert int(of_width["scroll"]) <= int(of_width["edge"]) <= width
    assert of_width["beyond"] == "0"
    assert of_width["dead"] == "0"


@pytest.mark.parametrize("width", [1280, 390])
def test_no_text_sticks_out_of_its_box(measured, width):
    assert measured[width]["clipped"] == ""


def test_the_page_fits_the_paper(folder, tmp_path):
    assert scale_in_print(folder / "report.html", tmp_path) == pytest.approx(1.0, abs=0.01)
