"""``datasets`` and ``datasets add``: what is found, what is written, what is asked."""

from pathlib import Path

import pytest
import typer

from imagedata.layouts.said import Said
from imagedata.plain_yaml import dump_yaml, parse_yaml
from tests.conftest import Outcome, run_command
from tests.imagedata.trees import mvtec_tree, noise
from tests.pictures import write_two_classes
from workflow.inventory import add_dataset as story
from workflow.run.prepared import prepare_data
from workflow.settings.config import RunOptions, resolve_config


@pytest.fixture(autouse=True)
def specs(tmp_path, monkeypatch) -> Path:
    """Specs of one's own lie here, not in the home of whoever runs the tests."""
    monkeypatch.setenv("OUTNUMBERED_SPECS", str(tmp_path / "specs"))
    monkeypatch.delenv("OUTNUMBERED_DATA", raising=False)
    return tmp_path / "specs"


def lots(folder: Path) -> Path:
    for n in range(24):
        noise(folder / ("cracked" if n % 4 == 0 else "sound") / f"lot{n // 2}_{n}.png", n)
    return folder


def add(*arguments: object) -> Outcome:
    return run_command("datasets", "add", *arguments)


def test_a_folder_gets_a_name_that_works_everywhere(tmp_path, specs, monkeypatch):
    lots(tmp_path / "castings")
    outcome = add(
        *("parts", "--folder", tmp_path / "castings", "--group", r"lot(\d+)_", "--imbalance", "1:3"),
        *("--title", "no: 1e5", "--json"),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["images"] == {"train": {"sound": 18, "cracked": 6}}
    assert (outcome.json["groups"], outcome.json["per_minority"]) == (12, 3.0)
    assert "in 12 groups" in outcome.said
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    entry = next(e for e in run_command("datasets", "--json").json if e["name"] == "parts")
    assert (entry["found"], entry["own"], entry["title"]) == (True, True, "no: 1e5")
    assert entry["images"] == {"sound": 18, "cracked": 6}
    assert (entry["per_minority"], entry["rule"]) == (3.0, "1:3")
    config = resolve_config(RunOptions("parts", overrides=["folds=2"], runs=tmp_path / "runs"))
    assert len({row.group for row in prepare_data(config).manifest.rows}) == 12


def test_trees_and_lists_get_names_too(tmp_path):
    mvtec_tree(tmp_path / "bottles")
    assert add("bottles", "--folder", tmp_path / "bottles").code == 0
    lots(tmp_path / "castings")
    rows = [
        f"castings/{p.parent.name}/{p.name},{p.parent.name}" for p in (tmp_path / "castings").rglob("*.png")
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    assert add("listed", "--folder", tmp_path / "list.csv").code == 0
    found = {
        entry["name"]: entry["images"] for entry in run_command("datasets", "--json").json if entry["own"]
    }
    assert found == {"bottles": {"good": 17, "anomalous": 11}, "listed": {"sound": 18, "cracked": 6}}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("covid", "--folder", "castings"), 2, "the catalogue has a set of that name"),
        (("a/b", "--folder", "castings"), 2, "a name has letters, digits"),
        (("parts",), 2, "say what it is with --folder"),
        (("parts", "--folder", "nowhere"), 2, "nowhere: no such folder or list"),
        (("parts", "--folder", "castings", "--group", "batch(\\d+)"), 3, "finds no group in"),
        (("parts", "--folder", "castings", "--group", "lot"), 2, "it has 0 (groups)"),
        (("parts", "--folder", "castings", "--group", "3"), 3, "finds no group in"),
        (("parts", "--folder", "castings", "--minority", "crackd"), 2, "Did you mean 'cracked'?"),
        (("parts", "--folder", "castings", "--imbalance", "4:1"), 2, "the minority comes first"),
        (("parts", "--folder", "empty"), 3, "no images that could be a data set"),
    ],
)
def test_mistakes_write_nothing(tmp_path, specs, monkeypatch, arguments, code, said):
    lots(tmp_path / "castings")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    outcome = add(*arguments)
    assert (outcome.code, said in outcome.said) == (code, True), outcome.said
    assert not specs.exists()


def test_a_spec_is_replaced_only_if_asked(tmp_path, specs):
    lots(tmp_path / "castings")
    assert add("parts", "--folder", tmp_path / "castings").code == 0
    again = add("parts", "--folder", tmp_path / "castings", "--title", "new")
    assert (again.code, "already exists. Give --overwrite" in again.said) == (2, True)
    assert add("parts", "--folder", tmp_path / "castings", "--title", "new", "--overwrite").code == 0
    assert parse_yaml((specs / "parts.yaml").read_text())["title"] == "new"


def test_asking_at_a_terminal(tmp_path):
    write_two_classes(tmp_path / "even", 6, 5)
    answers = {"Folder": str(tmp_path / "even"), "The minority": "odd", "Group": "-1"}
    asked = []

    def ask(question: str, default: str) -> str:
        asked.append(question)
        return next(answer for start, answer in answers.items() if question.startswith(start))

    new = story.NewDataset("even", None, Said(), None, {}, tmp_path / "even.yaml", False)
    document = story.add_dataset(new, ask)
    assert len(asked) == 3
    assert (document["minority"], document["groups"]) == ("odd", 2)
    assert parse_yaml((tmp_path / "even.yaml").read_text())["group"] == -1


def test_questions_go_to_standard_error(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        typer, "prompt", lambda text, **options: seen.update(options) or str(lots(tmp_path / "c"))
    )
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    from workflow.commands.data.datasets import _ask

    assert _ask("Folder", "") == str(tmp_path / "c")
    assert seen["err"] is True


def test_an_edited_spec_of_ones_own_is_named_and_harms_no_other(specs):
    specs.mkdir()
    (specs / "spoilt.yaml").write_text("name: spoilt\n")
    (specs / "[red]x.yaml").write_text("{")
    outcome = run_command("datasets", "--json")
    assert outcome.code == 0
    spoilt = {entry["name"]: entry["why"] for entry in outcome.json if entry["own"]}
    assert "key 'layout' is missing" in spoilt["spoilt"]
    assert "not readable as YAML" in spoilt["[red]x"]


def test_missing_categories_share_a_line_and_found_ones_have_their_own(tmp_path):
    mvtec_tree(tmp_path / "mvtec" / "bottle")
    outcome = run_command("datasets", "--data", tmp_path)
    assert "mvtec_bottle" in outcome.err
    assert "mvtec_zipper" not in outcome.err
    assert "mvtec_<category>" in outcome.err


def test_text_that_yaml_would_misread_is_quoted():
    document = {
        "a": "1e5",
        "b": "no",
        "c": "1:20",
        "d": "null",
        "e": 7,
        "f": ["- x", "", "~", "0"],
        "g": "ü: #",
    }
    assert parse_yaml(dump_yaml(document)) == document
