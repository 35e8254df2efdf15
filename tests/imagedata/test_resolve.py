"""From the command line's DATASET to a spec."""

import os
from pathlib import Path

import pytest

from contracts.errors import DataError, ExitCode, UsageError
from imagedata.resolve import resolve_dataset
from imagedata.spec import DataSpec


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def numbered(count: int) -> list[str]:
    return [f"{number}.png" for number in range(count)]


def test_folder_with_a_folder_per_class(tmp_path):
    touch(tmp_path / "many", *numbered(9))
    touch(tmp_path / "few", *numbered(2))
    resolved = resolve_dataset(str(tmp_path))
    spec = DataSpec.model_validate(resolved.document)
    assert spec.class_names == ("many", "few")
    assert (spec.layout.train, spec.layout.test) == ("{class}", None)
    assert resolved.is_folder
    assert resolved.data_dir == tmp_path


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Training", "Validation"), ("Train", "val"), ("training", None)]
)
def test_folder_with_a_training_and_a_held_out_part(tmp_path, train, test):
    for split in filter(None, (train, test)):
        touch(tmp_path / split / "many", *numbered(9))
        touch(tmp_path / split / "few", *numbered(2))
    spec = DataSpec.model_validate(resolve_dataset(str(tmp_path)).document)
    assert spec.class_names == ("many", "few")
    assert spec.layout.train == f"{train}/{{class}}"
    assert spec.layout.test == (f"{test}/{{class}}" if test else None)


def test_only_images_in_sight_are_counted(tmp_path):
    touch(tmp_path / "a", *numbered(8), ".hidden.png", "notes.txt")
    touch(tmp_path / "b", "1.PNG", "2.JPeG", *(f".{name}" for name in numbered(20)))
    touch(tmp_path / ".git", *numbered(1))
    touch(tmp_path / "b" / ".thumbnails", *numbered(30))
    assert resolve_dataset(str(tmp_path)).document["minority"] == "b"


def test_minority_that_is_not_obvious_must_be_said(tmp_path):
    touch(tmp_path / "a", *numbered(7))
    touch(tmp_path / "b", *numbered(4))
    with pytest.raises(UsageError, match=r"not obvious \(a 7, b 4\)\. Name it with --minority NAME\.$"):
        resolve_dataset(str(tmp_path))
    assert resolve_dataset(str(tmp_path), minority="a").document["minority"] == "a"


def test_twice_as_many_is_obvious(tmp_path):
    touch(tmp_path / "a", *numbered(8))
    touch(tmp_path / "b", *numbered(4))
    assert resolve_dataset(str(tmp_path)).document["minority"] == "b"


def test_minority_by_name_holds_for_the_catalogue_too():
    assert resolve_dataset("gender", minority="male").document["minority"] == "male"


@pytest.mark.parametrize("classes", [[], ["only"]])
def test_folder_without_two_classes(tmp_path, classes):
    for name in classes:
        touch(tmp_path / name, *numbered(3))
    with pytest.raises(
        DataError, match=f"at least two class folders are needed, got {classes[0] if classes else 'none'}"
    ):
        resolve_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("folder", "name"),
    [("my photos", "my_photos"), ("solar (new)", "solar_new"), ("ü", "images"), (".x", "x")],
)
def test_any_folder_name_gives_a_run_name(tmp_path, folder, name):
    touch(tmp_path / folder / "many", *numbered(9))
    touch(tmp_path / folder / "few", *numbered(2))
    assert DataSpec.model_validate(resolve_dataset(str(tmp_path / folder)).document).name == name


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_class_folder_may_be_a_link_and_loops_do_no_harm(tmp_path):
    touch(tmp_path / "elsewhere", *numbered(3))
    root = tmp_path / "set"
    touch(root / "many", *numbered(9))
    (root / "few").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "many" / "loop").symlink_to(root, target_is_directory=True)
    assert resolve_dataset(str(root)).document["minority"] == "few"


@pytest.mark.parametrize(("written", "meant"), [("covd", "covid"), ("gender_b", "gender_B")])
def test_unknown_name_gives_the_nearest(written, meant):
    with pytest.raises(
        UsageError, match=f"neither in the catalogue .* nor a folder.*Did you mean '{meant}'"
    ) as caught:
        resolve_dataset(written)
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_path_that_is_not_there_gets_no_catalogue(tmp_path):
    (tmp_path / "parts" / "casting").mkdir(parents=True)
    (tmp_path / "labels.csv").write_text("")
    for written, said in {
        "prats": f"data set '{tmp_path}/prats': no such folder. Did you mean '{tmp_path}/parts'?",
        "zzz": f"data set '{tmp_path}/zzz': no such folder.",
        "lables.csv": f"data set '{tmp_path}/lables.csv': no such file. "
        f"Did you mean '{tmp_path}/labels.csv'?",
        "prats/casting": f"data set '{tmp_path}/prats/casting': no such folder; {tmp_path}/prats does not "
        f"exist. Did you mean '{tmp_path}/parts'?",
    }.items():
        with pytest.raises(UsageError) as caught:
            resolve_dataset(str(tmp_path / written))
        assert str(caught.value) == said


def test_a_file_that_is_no_data_set_gets_no_catalogue(tmp_path):
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(UsageError, match=r"notes\.md': a file of no known kind\. Give a YAML spec"):
        resolve_dataset(str(tmp_path / "notes.md"))


def test_minority_is_found_in_any_capitals_unless_that_is_ambiguous(tmp_path):
    touch(tmp_path / "one" / "ok", *numbered(5))
    touch(tmp_path / "one" / "ng", *numbered(4))
    assert resolve_dataset(str(tmp_path / "one"), minority="NG").document["minority"] == "ng"
    assert resolve_dataset("covid", minority="covid").document["minority"] == "COVID"
    for name in ("ok", "ng", "Ng"):
        touch(tmp_path / "two" / name, *numbered(4))
    assert resolve_dataset(str(tmp_path / "two"), minority="Ng").document["minority"] == "Ng"
    assert resolve_dataset(str(tmp_path / "two"), minority="NG").document["minority"] == "NG"


def test_empty_name_is_not_the_working_directory():
    with pytest.raises(UsageError, match="data set ''"):
        resolve_dataset("")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- a", "a mapping of keys is expected, got list"),
        (b"", "got NoneType"),
        (b"{", "not readable as YAML"),
        (b"\xff\xfe", "not readable as YAML"),
        (b"a: 1\na: 2", "'a' is given twice"),
    ],
)
def test_spec_file_that_is_none(tmp_path, content, said):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        resolve_dataset(str(path))
    assert str(path) in str(caught.value)


def test_spec_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(
        "name: mine\nlayout: {kind: class_folders}\nclasses: [no, yes]\nminority: yes\nimbalance: 1:23\n"
    )
    resolved = resolve_dataset(str(path))
    spec = DataSpec.model_validate(resolved.document)
    assert spec.class_names == ("no", "yes")
    assert spec.imbalance == "1:23"
    assert resolved.data_dir == tmp_path
    with pytest.raises(UsageError, match=r"missing\.yaml': no such file"):
        resolve_dataset(str(tmp_path / "missing.yaml"))


def test_an_archive_as_data_set_says_to_unpack_it(tmp_path: Path) -> None:
    archive = tmp_path / "Parts.ZIP"
    archive.write_bytes(b"PK\5\6" + bytes(18))
    for place in (archive, tmp_path):
        with pytest.raises(DataError, match=r"Unpack .* the folder that holds"):
            resolve_dataset(str(place))
