"""A run without labels as users meet it: what to look at first, the page, ``explain``, ``compare``."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.files import read_json
from tests.conftest import Outcome, Run, run_command
from tests.pages import Page, measure_in_browser, scale_in_print
from tests.pictures import write_pictures

HOSTILE = "<img src=x onerror=alert(1)>$x$"
SPEC = """\
name: heap
title: "<script>alert(1)</script>"
source: javascript:alert(1)
licence: none
unlabelled: true
layout: {kind: class_folders, roots: [heap], train: "{class}"}
classes: [all, odd]
minority: odd
"""
RECIPE = """\
name: tiny
folds: 3
bootstrap: 100
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  patchcore: {bank_size: 60, candidate_patches: 300, pca_dim: 16}
  knn: {}
  cnn: {max_iterations: 1}
"""


class Heap:
    """Thirty images that nobody has labelled, three of them odd, one of these twice; and their run."""

    def __init__(self, folder: Path) -> None:
        self.images = folder / "heap" / "all"
        write_pictures(self.images, 26, False, 0)
        (folder / "heap" / "odd").mkdir()
        for path in write_pictures(folder / "made", 3, True, 0):
            path.rename(self.images / f"{HOSTILE}{path.name}")
        # Other bytes, the same picture.
        copy = (self.images / f"{HOSTILE}000.png").read_bytes()
        (self.images / "copy.png").write_bytes(copy + b"\0")
        (folder / "heap.yaml").write_text(SPEC)
        (folder / "tiny.yaml").write_text(RECIPE)
        self._folder = folder

    @property
    def folder(self) -> Path:
        return self._folder / "runs" / "heap" / "tiny"

    def command(self, name: str, *arguments: object) -> Outcome:
        place = self._folder
        options = ("--data", place, "--recipe", place / "tiny.yaml", "--runs", place / "runs")
        return run_command(name, place / "heap.yaml", *arguments, *options)


@pytest.fixture(scope="module")
def heap(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Heap, Outcome]:
    """A finished run, and what ``ensemble --json`` said."""
    folder = tmp_path_factory.mktemp("heap")
    heap = Heap(folder)
    trained.give_traced_backbones(folder / "runs")
    outcome = heap.command("train-all")
    assert outcome.code == 0, outcome.err
    outcome = heap.command("ensemble", "--json")
    assert outcome.code == 0, outcome.err
    return heap, outcome


@pytest.fixture(scope="module")
def report(heap: tuple[Heap, Outcome]) -> Path:
    outcome = heap[0].command("report", "--json")
    assert outcome.code == 0, outcome.err
    return Path(outcome.json["path"])


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text())


def test_the_list_begins_with_what_is_odd_and_holds_each_family_once(heap):
    run, outcome = heap
    path = Path(outcome.json["first_look"])
    assert path == run.folder / "first_look.parquet"
    rows = pq.read_table(path).to_pylist()
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(HOSTILE in row["path"] or "copy" in row["path"] for row in rows[:2])
    twice = [row for row in rows if row["path"] in (f"all/{HOSTILE}000.png", "all/copy.png")]
    assert [row["family_size"] for row in twice] == [2]
    assert {row["probability"] for row in rows} == {None}
    assert all(0 < row["p_normal"] <= 1 for row in rows)
    assert rows[0]["nearest"] is None
    before = {row["path"] for row in rows}
    assert {row["nearest"] for row in rows[1:]} <= before


def test_the_first_five_are_listed_with_the_command_for_the_page(heap):
    run, outcome = heap
    assert "Look at these first" in outcome.said
    assert f"With pictures: python cli.py report {run.folder.parents[2] / 'heap.yaml'}" in outcome.said
    again = run.command("ensemble")
    assert "Look at these first" in again.said


def test_a_list_that_was_deleted_is_made_again(heap):
    run, outcome = heap
    path = Path(outcome.json["first_look"])
    rows = pq.read_table(path).to_pylist()
    path.unlink()
    assert run.command("ensemble").code == 0
    assert pq.read_table(path).to_pylist() == rows


def test_the_page_shows_the_list_and_how_to_give_labels(heap, page):
    run, outcome = heap
    rows = pq.read_table(outcome.json["first_look"]).to_pylist()
    shown = [
        a["alt"] for tag, a in page.tags if tag == "img" and str(a["alt"]).startswith("Evidence map of ")
    ]
    assert shown == [f"Evidence map of {row['path']}" for row in rows]
    assert f"p_normal {rows[0]['p_normal']:.3g}, score {rows[0]['score']:.3g}" in page.text
    assert "Nobody has labelled any of them." in page.text
    assert "by patchcore, from which each image's own part is left out" in page.text
    assert f"cli.py update {run.folder.parents[2] / 'heap.yaml'} --missed FOLDER --normal FOLDER" in page.text
    assert "Probability needs labelled minority images" in page.text
    assert "1 near copy" in page.text


def test_nothing_comes_from_elsewhere_and_names_of_strangers_are_only_text(page):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:image/", "#")), value
    policy = next(a["content"] for tag, a in page.tags if "http-equiv" in a)
    assert "default-src 'none'" in policy
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {str(a["href"]).removeprefix("#") for tag, a in page.tags if tag == "a"} <= ids
    assert HOSTILE in page.text
    assert "<script>alert(1)</script>" in page.text


def test_pictures_can_be_left_out(heap, tmp_path):
    run, outcome = heap
    target = tmp_path / "bare.html"
    assert run.command("report", "--no-pictures", "--output", target).code == 0
    text = target.read_text()
    assert "data:image/jpeg" not in text
    words = Page(text).text
    assert "Pictures were left out of this page." in words
    assert pq.read_table(outcome.json["first_look"]).to_pylist()[0]["path"] in words
    assert "--no-pictures" in words  # in the command that makes it again


def test_explain_shows_p_normal_and_no_probability(heap, tmp_path):
    run, outcome = heap
    first = pq.read_table(outcome.json["first_look"]).to_pylist()[0]
    stranger = write_pictures(tmp_path, 1, True, 7)[0]
    known = run.images.parent / first["path"]
    told = run.command("explain", known, stranger, "--output", tmp_path / "out", "--json")
    assert told.code == 0, told.err
    mine, other = told.json["images"]
    assert mine["probability"] is None
    # As in the list: by members that did not see it.
    assert mine["p_normal"] == pytest.approx(first["p_normal"])
    assert (mine["is_out_of_fold"], other["is_out_of_fold"]) == (True, False)
    for image in (mine, other):
        assert {share["member"] for share in image["members"]} == {"patchcore", "knn"}
        assert {share["above_minority"] for share in image["members"]} == {None}
        assert image["patches"][0]["nearest"]
        assert Path(image["picture"]).stat().st_size > 10_000
    assert sum(share["contribution"] for share in mine["members"]) == pytest.approx(first["score"], abs=1e-6)
    assert "p_normal = " in told.said
    assert "its scores are by members that did not see it" in told.said


def test_compare_and_localise_say_what_is_missing(heap):
    run, _ = heap
    compared = run.command("compare")
    assert compared.code == 3
    assert "no image of odd is labelled, so nothing can be judged by it" in compared.said
    assert "python cli.py update" in compared.said
    localised = run.command("localise")
    assert localised.code == 3
    assert "the data set has no masks" in localised.said


def test_the_report_says_which_command_is_missing(heap, tmp_path):
    run, _ = heap
    saved = read_json(run.folder / "metrics.json")
    away = run.folder / "metrics.away"
    (run.folder / "metrics.json").rename(away)
    try:
        outcome = run.command("report", "--output", tmp_path / "none.html")
    finally:
        away.rename(run.folder / "metrics.json")
    assert saved["document"]["regime"] == "unlabelled"
    assert outcome.code == 5
    assert "no ensemble fitted yet. First run: python cli.py ensemble" in outcome.said


# ---- in a browser


@pytest.fixture(scope="module")
def measured(report: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, str]]:
    return measure_in_browser(report, tmp_path_factory.mktemp("browser"))


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window(measured, width):
    of_width = measured[width]
    assert int(of_width["scroll"]) <= int(of_width["edge"]) <= width
    assert (of_width["beyond"], of_width["dead"], of_width["clipped"]) == ("0", "0", "")
    assert int(of_width["images"]) > 40


def test_the_page_fits_the_paper(report, tmp_path):
    assert scale_in_print(report, tmp_path) == pytest.approx(1.0, abs=0.01)
