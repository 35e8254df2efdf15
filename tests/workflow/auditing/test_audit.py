"""``audit`` as users call it: wrong labels listed first, answered on the page, trained with."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from export.scoring.model import load_model
from tests.conftest import Outcome, Run, run_command
from tests.pages import Page, measure_in_browser, show_in_browser
from tests.pictures import picture
from tests.workflow.stories.test_multiclass_story import Story

RECIPE = """\
name: tiny
folds: 3
bootstrap: 100
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  subspace: {}
  cnn: {max_iterations: 20}
  cnn_weighted: {max_iterations: 20}
"""
HOSTILE = "<img src=x onerror=alert(1)>, \"'&.png"
HIDDEN = ("train/fine/900.png", f"train/fine/{HOSTILE}")
FALSE = ("train/odd/901.png",)


def write_tinted(paths: list[Path], tinted: bool, seed: int) -> None:
    """Write pictures; tinted ones have no blue, which the features of any network tell."""
    rng = np.random.default_rng([seed, int(tinted)])
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = picture(rng, False)
        pixels[:, :, 2] //= 4 if tinted else 1
        Image.fromarray(pixels).save(path, "PNG")


def numbered(folder: Path, count: int) -> list[Path]:
    return [folder / f"{number:03d}.png" for number in range(count)]


def answers_file(path: Path, rows: list[dict[str, str]]) -> Path:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


@pytest.fixture(scope="module")
def run(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on 45 and 12 images and three whose labels are wrong."""
    folder = tmp_path_factory.mktemp("wrong")
    data = folder / "blotches"
    for seed, (split, n_fine, n_odd) in enumerate((("train", 45, 12), ("test", 10, 10))):
        write_tinted(numbered(data / split / "fine", n_fine), False, seed)
        write_tinted(numbered(data / split / "odd", n_odd), True, seed)
    write_tinted([data / name for name in HIDDEN], True, 2)
    write_tinted([data / name for name in FALSE], False, 2)
    (folder / "tiny.yaml").write_text(RECIPE)
    run = Run(data, folder / "tiny.yaml", folder / "runs")
    trained.give_traced_backbones(run.runs)
    for name in ("train-all", "ensemble"):
        done = run.command(name)
        assert done.code == 0, done.err
    return run


@pytest.fixture(scope="module")
def audited(run: Run) -> Outcome:
    done = run.command("audit", "--json")
    assert done.code == 0, done.err
    return done


def test_wrong_labels_come_first_and_hidden_ones_before_others(audited):
    images = audited.json["images"]
    assert [each["rank"] for each in images] == list(range(1, 11))
    assert {each["path"] for each in images[:2]} == set(HIDDEN)
    assert all((each["label"], each["suggested"]) == ("fine", "odd") for each in images[:2])
    kinds = [each["kind"] for each in images]
    assert kinds == sorted(kinds, key=["hidden", "false_minority", "other"].index)
    assert images[kinds.index("false_minority")]["path"] == FALSE[0]
    assert audited.json["contradicted"] >= 3
    most = sorted(images, key=lambda each: -each["suspicion"])[:3]
    assert {each["path"] for each in most} == {*HIDDEN, *FALSE}


def test_what_is_not_listed_is_said(audited):
    assert "The 20 test images are not listed" in audited.said
    assert audited.json["not_listed"] == {"test": 20, "feedback": 0}
    assert not any(each["path"].startswith("test/") for each in audited.json["images"])
    assert "2 perhaps hidden odd" in audited.said or "perhaps hidden odd" in audited.said


def test_share_sets_the_length(run):
    done = run.command("audit", "--share", ".5", "--json", "--output", run.runs / "half.html")
    assert len(done.json["images"]) == 30
    assert (run.runs / "half.html").exists()
    assert run.command("audit", "--share", "1.5").code == 2


def test_page_runs_our_script_alone_and_escapes_names(audited):
    text = Path(audited.json["page"]).read_text(encoding="utf-8")
    page = Page(text)
    [policy] = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv")]
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not [attrs for tag, attrs in page.tags if tag == "img" and "onerror" in attrs]
    assert html.escape(HOSTILE, quote=False).split(",")[0] in text
    assert not re.findall(r"(?:src|href)=.https?:", text)
    cards = [attrs for tag, attrs in page.tags if tag == "figure"]
    assert [card["data-sha256"] for card in cards] == [each["sha256"] for each in audited.json["images"]]


def test_page_fits_a_screen_and_a_phone(audited, tmp_path):
    for width, found in measure_in_browser(Path(audited.json["page"]), tmp_path).items():
        assert (found["beyond"], found["dead"], found["clipped"]) == ("0", "0", ""), width
        assert int(found["scroll"]) <= int(found["edge"])


def test_keys_answer_and_the_list_is_taken(audited, run, tmp_path):
    """In a real browser: w, r, u on three cards; what the page would save is what --confirm takes."""
    written = show_in_browser(
        Path(audited.json["page"]),
        tmp_path,
        """
        const press = key => (page.activeElement || page.body).dispatchEvent(
          new window.KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
        press("n"); press("w"); press("r"); press("u"); press("u");
        press("p"); press("u");
        return page.getElementById("answers").value + page.getElementById("count").textContent;
        """,
    )
    lines, _, count = written.rpartition("\n")
    rows = list(csv.DictReader(io.StringIO(lines)))
    images = audited.json["images"]
    # The fourth u answered the fourth card; p went back to it, and u there took the answer back.
    assert [row["answer"] for row in rows] == ["wrong", "right", "unsure"]
    assert [row["sha256"] for row in rows] == [each["sha256"] for each in images[:3]]
    assert rows[0]["label"] == "odd"
    assert rows[1]["label"] == "fine"
    assert count == "3 of 10 answered"
    (tmp_path / "answers.csv").write_text(lines, encoding="utf-8")
    copy = run.copy(tmp_path / "copy")
    done = copy.command("audit", "--confirm", tmp_path / "answers.csv", "--json")
    assert done.code == 0, done.err
    assert (done.json["corrected"], done.json["found_right"], done.json["unsure"]) == (1, 1, 1)


def test_corrections_are_trained_with_and_taken_back(run, tmp_path):
    copy = run.copy(tmp_path)
    before = bytes_below(copy.dataset)
    given = answers_file(
        tmp_path / "answers.csv",
        [
            {"path": HIDDEN[0], "label": "odd"},
            {"path": str(copy.dataset / HIDDEN[1]), "label": "odd"},
            {"path": FALSE[0], "label": "fine"},
            {"path": "train/fine/000.png", "label": "fine"},
        ],
    )
    done = copy.command("audit", "--confirm", given, "--json")
    assert done.code == 0, done.err
    assert "3 labels corrected, 1 found right" in done.said
    kept = copy.runs / "corrections" / "blotches.csv"
    assert done.json["corrections"] == str(kept)
    assert len(list(csv.DictReader(kept.open()))) == 4
    assert bytes_below(copy.dataset) == before

    # The finished run stays usable; it says what changed, and asks no answered image again.
    again = copy.command("audit", "--json")
    assert again.json["answered"] == 4
    assert not {each["path"] for each in again.json["images"]} & {*HIDDEN, *FALSE}
    assert again.json["data_changed"]["relabelled"] == 3
    assert "3 images relabelled" in again.said

    trained = copy.command("train-all", "--json")
    assert trained.code == 0, trained.err
    assert "Labels of 3 training images are corrected" in trained.said
    assert trained.json["corrected"] == {"train": 3, "test": 0}
    rows = {row["path"]: row for row in pq.read_table(copy.folder / "manifest.parquet").to_pylist()}
    assert {(rows[path]["label"], rows[path]["listed_label"]) for path in HIDDEN} == {("odd", "fine")}
    assert (rows[FALSE[0]]["label"], rows[FALSE[0]]["listed_label"]) == ("fine", "odd")
    assert rows["train/fine/000.png"]["listed_label"] is None
    fused = copy.command("ensemble", "--json")
    assert fused.code == 0, fused.err
    assert "data_changed" not in copy.command("audit", "--json").json
    # Who is handed the file or the page learns of it, too.
    said = load_model(copy.folder / "model.onnx").document["data"]["corrected"]
    assert (said["train"], said["test"], said["list"]) == (3, 0, "blotches.csv")
    card = (copy.folder / "deploy" / "README.md").read_text(encoding="utf-8")
    assert "| corrected labels | of 3 training and 0 test images, by people, in the list" in card
    assert f"`blotches.csv`; digest of these corrections `{said['digest']}` |" in card
    assert copy.command("report", "--no-pictures").code == 0
    page = " ".join((copy.folder / "report.html").read_text(encoding="utf-8").split())
    assert "Labels that people corrected: of 3 training images (list" in page
    assert f"digest of these corrections {said['digest']})" in page

    kept.unlink()
    back = copy.command("train-all", "--json")
    assert back.json["corrected"] == {}
    assert "corrected" not in back.said


def test_a_stated_file_of_corrections_holds_for_other_runs(run, tmp_path):
    copy = run.copy(tmp_path)
    own = tmp_path / "labels.csv"
    given = answers_file(tmp_path / "answers.csv", [{"path": HIDDEN[0], "label": "odd"}])
    stated = ("-o", f"corrections={own}")
    assert copy.command("audit", "--confirm", given, *stated).code == 0
    assert own.exists()
    assert not (copy.runs / "corrections" / "blotches.csv").exists()
    planned = copy.command("train-all", "--dry-run", *stated)
    assert "Labels of 1 training image are corrected" in planned.said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"path": "train/fine/none.png", "label": "odd"}], "the run has no image train/fine/none.png"),
        (
            [{"path": HIDDEN[0], "label": "ood"}],
            "'ood' is no class; the classes are fine, odd. Did you mean 'odd'?",
        ),
        ([{"path": HIDDEN[0], "label": "odd", "answer": "maybe"}], "the answer is 'maybe', not one of wrong"),
        ([{"path": HIDDEN[0], "label": "fine", "answer": "wrong"}], "is said to be wrong, but fine is given"),
        ([{"path": HIDDEN[0], "label": "fine", "answer": "unsure"}], "nothing to keep"),
        ([{"path": HIDDEN[0], "label": "odd"}, {"path": HIDDEN[0], "label": "fine"}], "Keep one of them"),
        ([{"file": HIDDEN[0], "label": "odd"}], "neither a column path nor a column sha256"),
        ([{"path": HIDDEN[0], "class": "odd"}], "it has no column 'label'"),
    ],
)
def test_answers_that_cannot_be_taken_are_refused_as_a_whole(run, tmp_path, rows, said):
    good = dict.fromkeys(rows[0], "") | dict(zip(rows[0], (FALSE[0], "fine"), strict=False))
    wrong = answers_file(tmp_path / "answers.csv", rows if "nothing" in said else [good, *rows])
    done = run.command("audit", "--confirm", wrong)
    assert done.code == 3
    assert said in done.said
    assert not (run.runs / "corrections" / "blotches.csv").exists()


def test_what_is_no_list_is_a_mistake_of_usage(run, tmp_path):
    assert "no such file" in (done := run.command("audit", "--confirm", tmp_path / "none.csv")).said
    assert done.code == 2


def test_edited_corrections_are_refused_with_what_to_do(run, tmp_path):
    copy = run.copy(tmp_path)
    kept = copy.runs / "corrections" / "blotches.csv"
    kept.parent.mkdir(exist_ok=True)
    for text, said in (
        ("sha256,path,label,listed\nabc,a.png,odd,fine\n", "entry 1 is no corrected label"),
        (f"sha256,path,label,listed\n{'0' * 64},a.png,od,fine\n", "Did you mean 'odd'?"),
    ):
        kept.write_text(text)
        done = copy.command("train-all")
        assert done.code == 3
        assert said in done.said


def test_an_unfinished_run_says_what_to_run_first(trained):
    done = trained.command("audit")
    assert done.code == 5
    assert "ensemble" in done.said


def test_hidden_images_among_normal_ones(trained, tmp_path):
    data = tmp_path / "line"
    write_tinted(numbered(data / "good", 40), False, 5)
    write_tinted([data / "good" / "hidden.png"], True, 5)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    run = Run(data, tmp_path / "tiny.yaml", tmp_path / "runs")
    trained.give_traced_backbones(run.runs)
    for name in ("train-all", "ensemble"):
        done = run.command(name, "--normal", "good")
        assert done.code == 0, done.err
    done = run.command("audit", "--normal", "good", "--json")
    assert done.code == 0, done.err
    first = done.json["images"][0]
    assert (first["path"], first["kind"], first["p_label"]) == ("good/hidden.png", "hidden", None)
    assert done.json["contradicted"] is None
    assert Path(done.json["page"]).read_text().count('class="card"') == 10
    given = answers_file(tmp_path / "a.csv", [{"path": first["path"], "label": first["suggested"]}])
    assert run.command("audit", "--normal", "good", "--confirm", given).code == 0
    planned = run.command("train-all", "--normal", "good", "--dry-run")
    assert "Labels of 1 training image are corrected" in planned.said


def test_without_labels_there_is_nothing_to_contradict(trained, tmp_path):
    write_tinted(numbered(tmp_path / "line", 20), False, 6)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    run = Run(tmp_path / "line", tmp_path / "tiny.yaml", tmp_path / "runs")
    trained.give_traced_backbones(run.runs)
    assert run.command("train-all", "--unlabelled").code == 0
    done = run.command("audit", "--unlabelled")
    assert done.code == 2
    assert "nobody has labelled its images" in done.said
    assert "python cli.py report" in done.said


def test_three_classes_from_a_pack(trained, tmp_path):
    story = Story(tmp_path)
    trained.give_traced_backbones(story.runs)
    data = ("--data", tmp_path)
    for name in ("train-all", "ensemble"):
        done = story.command(name, *data)
        assert done.code == 0, done.err
    done = story.command("audit", "--share", ".3", "--json", *data)
    assert done.code == 0, done.err
    images = done.json["images"]
    assert len(images) == 23
    for each in images:
        assert each["suggested"] != each["label"]
        assert each["kind"] == (
            "hidden"
            if each["suggested"] == "two"
            else "false_minority"
            if each["label"] == "two"
            else "other"
        )
    first = images[0]
    given = answers_file(tmp_path / "a.csv", [{"sha256": first["sha256"], "label": first["suggested"]}])
    assert story.command("audit", "--confirm", given, *data).code == 0
    again = story.command("audit", "--json", *data)
    assert again.json["data_changed"]["relabelled"] == 1
    planned = run_command(
        "train-all", story.spec, "--dry-run", "--recipe", story.recipe, "--runs", story.runs, *data
    )
    assert "Labels of 1 training image are corrected" in planned.said
    assert json.loads(done.out)["classes"] == ["nought", "one", "two"]


def test_check_looks_at_corrected_labels(run, tmp_path):
    """A file that stands in both classes contradicts itself until a person says which is right."""
    copy = run.copy(tmp_path, with_dataset=True)
    twice = copy.dataset / "train" / "odd" / "000.png"
    (copy.dataset / "train" / "fine" / "twice.png").write_bytes(twice.read_bytes())
    check = ("check", copy.dataset, "--runs", copy.runs, "--json")
    assert run_command(*check).json["training"]["status"]["excluded"] == 2
    kept = copy.runs / "corrections" / "blotches.csv"
    kept.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256(twice.read_bytes()).hexdigest()
    kept.write_text(f"sha256,path,label,listed\n{digest},twice.png,odd,fine\n")
    assert run_command(*check).json["training"]["status"]["excluded"] == 1
