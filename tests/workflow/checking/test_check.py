"""``check``: everything hostile is named, nothing crashes or is changed, verdicts decide the exit code."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from imagedata.audit.rules import RULES
from tests.conftest import run_command
from tests.hostile import encode
from tests.hostile_corpus import HOSTILE_NAMES, photo, write_corpus
from tests.packs import IDX_FILES, write_idx_pack
from tests.pages import Page, measure_in_browser
from tests.pictures import write_pictures
from workflow.run.prepared import prepare_data
from workflow.settings.config import RunOptions, resolve_config

SMALL_BACKBONE = (
    "-o",
    "backbone={name: test_efficientnet, weights: random, image_size: 64}",
    "-o",
    "folds=3",
)


def fingerprint(folder: Path) -> dict[str, str]:
    """Path → kind, time and content of everything below a folder."""
    return {
        str(path.relative_to(folder)): f"{path.lstat().st_mode} {path.lstat().st_mtime_ns} "
        + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    corpus = write_corpus(folder / "castings", good=21)
    before = fingerprint(corpus.folder)
    outcome = run_command(
        "check", corpus.folder, "--minority", "cracked", "--runs", folder / "runs", "--json"
    )
    return corpus, outcome, before, folder


def test_every_hostile_file_is_named_by_its_rule_and_good_neighbours_by_none(hostile):
    corpus, outcome, _, _ = hostile
    found = {(finding["path"], finding["rule"]) for finding in outcome.json["findings"]}
    missing = {pair for pair in corpus.rule_of.items() if pair not in found}
    assert missing == set()
    refused = {"unreadable", "empty", "not_an_image", "truncated", "broken", "bomb", "too_small", "crashed"}
    assert not any(path in corpus.good and rule in refused for path, rule in found)
    n_refused = sum(rule in refused for rule in corpus.rule_of.values())
    assert outcome.json["refused_files"] == n_refused
    assert outcome.json["training"]["status"]["broken"] == n_refused
    assert set(outcome.json["rules"]) <= set(RULES)


def test_no_input_is_changed(hostile):
    corpus, _, before, _ = hostile
    assert fingerprint(corpus.folder) == before


def test_terminal_shows_hostile_names_as_they_cannot_hurt(hostile):
    _, outcome, _, _ = hostile
    assert "\x1b" not in outcome.err
    assert "\x07" not in outcome.err
    assert "\u202e" not in outcome.err
    # The table breaks a name into lines, between bars.
    assert "\\x1b[31mred" in re.sub(r"[\s│]", "", outcome.err)


def test_page_escapes_hostile_names(hostile):
    _, outcome, _, _ = hostile
    text = Path(outcome.json["page"]).read_text(encoding="utf-8")
    page = Page(text)
    assert all(tag != "script" for tag, _ in page.tags)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert images
    assert all(attributes["src"].startswith("data:image/jpeg;base64,") for attributes in images)
    assert all(set(attributes) == {"src", "alt"} for attributes in images)
    assert "<img src=x onerror=alert(1)>.png" in page.text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\u202egnp.exe.png" in page.text
    assert "{{ 7*7 }}" in page.text
    assert len(HOSTILE_NAMES) == 7


def test_page_fits_wide_and_narrow_windows_and_shows_every_picture(hostile, tmp_path):
    _, outcome, _, _ = hostile
    shown = measure_in_browser(Path(outcome.json["page"]), tmp_path)
    for width in (1280, 390):
        assert int(shown[width]["scroll"]) <= int(shown[width]["edge"])
        assert shown[width]["beyond"] == "0"
        assert shown[width]["dead"] == "0"
        assert int(shown[width]["images"]) > 10


def test_document_counts_what_is_zero_too(hostile):
    _, outcome, _, _ = hostile
    counts = outcome.json["duplicates"]["counts"]
    assert counts["exact"]["across labels"] == {"sets": 0, "files": 0}
    names = {problem["name"] for problem in outcome.json["problems"]}
    assert {"exact_across_splits", "near_across_labels", "exact_across_groups"} <= names


def two_classes(folder: Path, n: int = 24) -> Path:
    """Photographs in two classes that nothing tells apart, without a test set."""
    for name, start, count in (("fine", 0, n), ("odd", 500, n // 2)):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            (folder / name / f"{name}{'abcdefghijklmnopqrstuvwxyz'[k]}.png").write_bytes(
                encode(photo(start + k, 40), "PNG")
            )
    return folder


def checked(folder: Path, *arguments: object):
    return run_command(
        "check", folder, "--minority", "odd", "--runs", folder.parent / "runs", "--json", *arguments
    )


def verdicts(outcome) -> dict[str, str]:
    return {problem["name"]: problem["severity"] for problem in outcome.json["problems"]}


def sentence(outcome, name: str) -> str:
    """What is said of a point; the table breaks it into lines."""
    return next(problem["sentence"] for problem in outcome.json["problems"] if problem["name"] == name)


def test_valid_set_ends_well(tmp_path):
    outcome = checked(two_classes(tmp_path / "set"), "--output", tmp_path / "there" / "page.html")
    assert outcome.code == 0, outcome.err
    assert outcome.json["valid"]
    page = Page((tmp_path / "there" / "page.html").read_text(encoding="utf-8"))
    assert "Nothing proven that would make results invalid." in page.text
    assert "Nothing proven that would make results invalid." in outcome.said
    assert not set(verdicts(outcome).values()) & {"invalid", "refused"}


def test_near_copy_is_invalid_until_it_is_heeded(tmp_path):
    folder = two_classes(tmp_path / "set")
    (folder / "odd" / "again.jpg").write_bytes(encode(photo(3, 40), "JPEG", quality=80))
    outcome = checked(folder)
    assert outcome.code == 3
    assert verdicts(outcome)["near_across_labels"] == "invalid"
    assert outcome.json["duplicates"]["sets"][0]["files"] == ["fine/fined.png", "odd/again.jpg"]
    listed = outcome.json["duplicates"]["near_duplicates_file"]
    again = checked(folder, "-o", f"near_duplicates={listed}")
    assert again.code == 0, again.err
    assert verdicts(again)["near_across_labels"] == "note"
    assert again.json["training"]["status"]["excluded"] == 2
    # Training takes the same file into account in the same way.
    options = RunOptions(
        str(folder), overrides=(f"near_duplicates={listed}",), runs=tmp_path / "runs", minority="odd"
    )
    data = prepare_data(resolve_config(options))
    assert [row.path for row in data.manifest.rows if row.status == "excluded"] == [
        "fine/fined.png",
        "odd/again.jpg",
    ]


def test_near_copy_within_a_class_is_something_to_look_at(tmp_path):
    folder = two_classes(tmp_path / "set")
    (folder / "fine" / "again.jpg").write_bytes(encode(photo(3, 40), "JPEG", quality=80))
    outcome = checked(folder)
    assert (outcome.code, outcome.json["outcome"]) == (0, "look at this")
    assert verdicts(outcome)["near_within_a_class"] == "warning"
    assert "-o near_duplicates=" in sentence(outcome, "near_within_a_class")


def test_page_and_table_show_the_three_outcomes_worst_first(tmp_path):
    folder = two_classes(tmp_path / "set")
    (folder / "fine" / "again.jpg").write_bytes(encode(photo(3, 40), "JPEG", quality=80))
    (folder / "odd" / "another.jpg").write_bytes(encode(photo(5, 40), "JPEG", quality=80))
    outcome = checked(folder)
    assert (outcome.code, outcome.json["outcome"]) == (3, "invalid")
    text = Page(Path(outcome.json["page"]).read_text(encoding="utf-8")).text
    headings = ("Invalid: proven leakage or a contradiction", "Look at this", "Fine")
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert places[0] < text.index("near copies across labels") < places[1]
    assert "Invalid, hence exit 3: near copies across labels" in outcome.said


def test_two_labels_in_the_held_out_split_are_invalid_and_in_training_are_mended(tmp_path):
    folder = two_classes(tmp_path / "set")
    shutil.copy(folder / "fine" / "finea.png", folder / "odd" / "copy.png")
    outcome = checked(folder)
    assert (outcome.code, verdicts(outcome)["exact_across_labels"]) == (0, "warning")
    split = tmp_path / "split"
    shutil.copytree(folder, split / "train")
    shutil.copytree(folder, split / "test")
    outcome = checked(split)
    assert (outcome.code, verdicts(outcome)["exact_across_labels"]) == (3, "invalid")
    assert verdicts(outcome)["training"] == "refused"  # for all of training lies in the test set


def patients(folder: Path, n: int = 12) -> Path:
    """Patches that are alike within a patient, each patient of mostly one label."""
    rng = np.random.default_rng(0)
    for patient in range(n):
        base = photo(900 + patient, 40).astype(int)
        for k in range(5):
            label = int(patient % 2 == 0) if k else int(patient % 2)
            name = f"{10253 + patient}_idx5_x{1 + 50 * k}_y{1001}_class{label}.png"
            place = folder / str(10253 + patient) / str(label)
            place.mkdir(parents=True, exist_ok=True)
            # Patches of a patient are alike, as far as a model is concerned, but no copies.
            pixels = np.clip(base + rng.integers(-90, 91, (40, 40, 3)), 0, 255).astype(np.uint8)
            (place / name).write_bytes(encode(pixels, "PNG"))
    (folder / "set.yaml").write_text(
        "name: patches\nlayout: {kind: label_table, table: all.csv, columns: [path, label], separator: ',',\n"
        "  label_column: label, values_of_class: {fine: ['0'], odd: ['1']}}\n"
        "classes: [fine, odd]\nminority: odd\n"
    )
    rows = [f"{p.relative_to(folder)},{p.parent.name}" for p in sorted(folder.rglob("*.png"))]
    (folder / "all.csv").write_text("\n".join(rows))
    return folder / "set.yaml"


def test_groups_are_guessed_confirmed_denied_and_enforced(tmp_path):
    spec = patients(tmp_path / "idc")

    def verdict(*arguments: object):
        outcome = run_command("check", spec, "--runs", tmp_path / "runs", "--json", *arguments)
        return outcome, verdicts(outcome)["groups"]

    outcome, severity = verdict()
    # A guess is a question: it ends nothing, and names the two flags that answer it.
    assert severity == "warning"
    assert (outcome.code, outcome.json["outcome"]) == (0, "look at this")
    assert "--confirm-groups" in sentence(outcome, "groups")
    assert "--deny-groups" in sentence(outcome, "groups")
    assert outcome.json["groups"]["guesses"][0]["n_groups"] == 12
    override = outcome.json["groups"]["override"]
    assert verdict("--deny-groups")[1] == "fine"
    confirmed, severity = verdict("--confirm-groups")
    assert severity == "fine"
    assert confirmed.json["groups"]["rule"] == override.removeprefix("group=")
    enforced, severity = verdict("-o", override)
    assert severity == "fine"
    assert enforced.json["groups"]["guesses"] == []
    assert sentence(enforced, "groups").startswith("The spec keeps groups together by ")


def test_what_is_confirmed_is_saved_and_enforced_by_the_folds_of_later_commands(tmp_path):
    folder = tmp_path / "lots"
    for n in range(48):
        place = folder / ("odd" if n % 4 == 0 else "fine")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"lot{n // 4}_{n}.png").write_bytes(encode(photo(n, 40), "PNG"))
    (folder / "odd" / "lot0_again.jpg").write_bytes(encode(photo(0, 40), "JPEG", quality=80))
    saved = tmp_path / "specs" / "lots.yaml"
    arguments = ("--confirm-groups", "--save", saved, "-o", "test_share=0.25", "-o", "folds=3")
    outcome = checked(folder, *arguments)
    assert outcome.json["saved"] == str(saved)
    assert f"Next: python cli.py train-all {saved} --runs {tmp_path / 'runs'} -o folds=3" in outcome.said
    # Nothing but the saved spec is named from here on, and from another folder.
    data = prepare_data(
        resolve_config(RunOptions(str(saved), runs=tmp_path / "later", overrides=["folds=3"]))
    )
    rows = [*data.train, *data.test]
    assert {row.group for row in rows} == {f"lot{n}" for n in range(12)}
    assert len({row.path for row in rows}) == len(rows) > 40
    folds_of: dict[str, set[int]] = {}
    for row, fold in zip(data.train, data.fold_of_row.tolist(), strict=True):
        folds_of.setdefault(row.group, set()).add(fold)
    for row in data.test:
        folds_of.setdefault(row.group, set()).add(-1)
    assert all(len(folds) == 1 for folds in folds_of.values())
    config = resolve_config(RunOptions(str(saved)))
    assert config.spec.minority == "odd"
    assert config.spec.test_share == 0.25
    assert config.spec.near_duplicates == outcome.json["duplicates"]["near_duplicates_file"]
    # The same check on the saved spec has nothing left to confirm, and may replace it.
    again = run_command("check", saved, "--runs", tmp_path / "runs", "--save", saved, "--json")
    assert again.code == 0, again.err
    assert resolve_config(RunOptions(str(saved))).spec == config.spec


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("spec.txt", "name a file that ends in .yaml"),
        ("folder.yaml", "that is a folder"),
        ("other.yaml", "a file that is no spec of set lies there"),
    ],
)
def test_place_for_the_spec_is_looked_at_first(tmp_path, name, said):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "other.yaml").write_text("name: another\n")
    outcome = checked(two_classes(tmp_path / "set"), "--save", tmp_path / name)
    assert outcome.code == 2
    assert said in outcome.said
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "other.yaml").read_text() == "name: another\n"


def test_confirming_what_nobody_guessed_is_an_error(tmp_path):
    outcome = checked(two_classes(tmp_path / "set"), "--confirm-groups")
    assert outcome.code == 3
    assert "neither folders nor names tell any. Give a rule with -o group=REGEX" in outcome.said


def test_leak_is_shown_as_the_difference_of_random_and_grouped_folds(tmp_path, trained):
    trained.give_traced_backbones(tmp_path / "runs")
    spec = patients(tmp_path / "idc", n=16)
    outcome = run_command(
        "check", spec, "--runs", tmp_path / "runs", "--json", "--show-leak", *SMALL_BACKBONE,
        "-o", "members={cnn: {max_iterations: 20}}",
    )  # fmt: skip
    leak = outcome.json["leak"]
    assert [each["member"] for each in leak["members"]] == ["cnn"]
    each = leak["members"][0]
    assert each["inflation"] == pytest.approx(each["random"] - each["grouped"])
    assert each["interval"][0] <= each["inflation"] <= each["interval"][1]
    assert leak["groups"] < leak["rows"]
    assert "random folds add" in sentence(outcome, "leak_cnn")
    assert "What random folds would add" in Page(Path(outcome.json["page"]).read_text()).text


def test_leak_without_groups_is_refused_in_a_sentence(tmp_path):
    outcome = checked(two_classes(tmp_path / "set"), "--show-leak")
    assert "nothing that folds could part" in sentence(outcome, "leak")
    assert outcome.code == 0


@pytest.mark.parametrize("flat", [False, True])
def test_normal_images_and_images_without_labels_are_fine(tmp_path, flat):
    folder = tmp_path / "set"
    write_pictures(folder if flat else folder / "fine", 12, odd=False, seed=0)
    outcome = checked(folder)
    assert outcome.code == 0, outcome.err
    imbalance = outcome.json["imbalance"]
    assert imbalance["regime"] == ("unlabelled" if flat else "normal_only")
    assert imbalance["train"] == {"normal" if flat else "fine": 12, "odd": 0}
    assert set(verdicts(outcome).values()) <= {"fine", "note", "warning"}
    assert verdicts(outcome)["training"] == "fine"
    assert "there is none of it" in sentence(outcome, "shortcuts")
    assert "12 independent normal images let p_normal" in sentence(outcome, "imbalance_p_normal")
    assert "No images of odd in training" in Page(Path(outcome.json["page"]).read_text()).text


def test_hidden_labels_tell_a_check_nothing(tmp_path):
    folder = two_classes(tmp_path / "set")
    outcome = checked(folder, "--unlabelled")
    assert outcome.code == 0, outcome.err
    assert outcome.json["imbalance"]["regime"] == "unlabelled"
    hidden = run_command(
        "check", folder, "--minority", "odd", "--runs", tmp_path / "runs", "--json", "-o", "unlabelled=true"
    )
    assert hidden.code == 0, hidden.err
    assert hidden.json["imbalance"]["positives"] == 0
    assert hidden.json["listed"]["train"]["odd"] == 0


def test_set_that_training_refuses_is_still_checked(tmp_path):
    folder = tmp_path / "set"
    write_pictures(folder / "fine", 9, odd=False, seed=0)
    write_pictures(folder / "odd", 2, odd=True, seed=0)
    outcome = checked(folder, "-o", "test_per_class=500")
    assert outcome.code == 3
    assert verdicts(outcome)["training"] == "refused"
    assert "Use -o test_per_class=" in sentence(outcome, "training")
    short = {e["name"] for e in outcome.json["imbalance"]["support"] if e["is_short"]}
    assert {"folds", "calibrator", "conformal", "supervision", "stacker", "p_normal"} <= short


@pytest.mark.slow
@pytest.mark.shared_data
def test_real_sets_show_what_is_known_of_them(tmp_path, shared_data):
    gender = run_command("check", "gender", "--data", shared_data, "--runs", tmp_path, "--json")
    exact = {
        relation: each["sets"] for relation, each in gender.json["duplicates"]["counts"]["exact"].items()
    }
    assert exact["across labels"] == 1
    assert exact["within a class"] == 2
    assert exact["across splits"] == 1
    assert gender.json["duplicates"]["counts"]["perceptual"]["across splits"]["sets"] >= 4
    assert gender.code == 3
    covid = run_command("check", "covid", "--data", shared_data, "--runs", tmp_path, "--json")
    warned = {each["fact"] for each in covid.json["shortcuts"] if each["is_warning"]}
    assert {"metadata", "file names"} <= warned
    said = sentence(covid, "shortcut_metadata")
    assert said.startswith("The label can be predicted from file properties alone")
    assert "a colour profile in 17 of 124 against 0 of " in said
    assert "lungs" not in said
    assert covid.code == 3


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["neu", "screws_small"])
def test_industrial_sets_without_leakage_end_well(tmp_path, shared_data, name):
    minority = ("--minority", "scratches") if name == "neu" else ()
    outcome = run_command("check", shared_data / name, *minority, "--runs", tmp_path, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["outcome"] == "look at this"
    counts = outcome.json["duplicates"]["counts"]["perceptual"]
    assert counts["across labels"]["sets"] == counts["across splits"]["sets"] == 0
    assert {p["name"] for p in outcome.json["problems"] if p["severity"] == "warning"} >= {
        "shortcut_mean_colour"
    }


def test_packed_set_of_three_classes_is_checked_as_training_unpacks_it(tmp_path):
    write_idx_pack(tmp_path / "pack", (30, 20, 12), (6, 6, 6))
    (tmp_path / "pack" / "set.yaml").write_text(
        "name: digits\nlayout:\n  kind: packed\n  format: idx\n"
        f"  train: {json.dumps(IDX_FILES['train'])}\n  test: {json.dumps(IDX_FILES['test'])}\n"
        "  label_of_class: {a: 0, b: 1, c: 2}\nclasses: [a, b, c]\nminority: c\n"
    )
    outcome = run_command("check", tmp_path / "pack" / "set.yaml", "--runs", tmp_path / "runs", "--json")
    assert outcome.json["files"] == 80
    assert outcome.json["refused_files"] == 0
    assert outcome.json["imbalance"]["train"] == {"a": 30, "b": 20, "c": 12}
    assert outcome.json["imbalance"]["calibrator"] == "temperature"
    assert {each["fact"] for each in outcome.json["shortcuts"]} >= {"mean colour", "corner pixels"}
