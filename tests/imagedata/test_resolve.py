"""From the command line's DATASET to a spec."""

import os
from pathlib import Path

import pytest

from contracts.errors import DataError, ExitCode, UsageError
from imagedata.layouts.said import Said
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
    assert resolve_dataset(str(tmp_path), Said("a")).document["minority"] == "a"


def test_twice_as_many_is_obvious(tmp_path):
    touch(tmp_path / "a", *numbered(8))
    touch(tmp_path / "b", *numbered(4))
    assert resolve_dataset(str(tmp_path)).document["minority"] == "b"


def test_minority_by_name_holds_for_the_catalogue_too():
    assert resolve_dataset("gender", Said("male")).document["minority"] == "male"


def spec_and_images(place, *said, **more):
    """The spec of a place, and its images: path, split and label."""
    resolved = resolve_dataset(str(place), Said(*said, **more))
    spec = DataSpec.model_validate(resolved.document)
    listed = spec.list_images(spec.find(resolved.data_dir))
    return spec, {(image.path, image.split, image.label) for image in listed}


@pytest.mark.parametrize("name", ["good", "widgets"])
@pytest.mark.parametrize("train", ["{}", "train/{}", "{}/train"])
@pytest.mark.parametrize("test", [False, True])
def test_a_single_folder_holds_normal_images(tmp_path, name, train, test):
    held_out = train.replace("train", "test").format(name)
    if test and "train" not in train:
        pytest.skip("a test folder beside a class folder would be another class")
    touch(tmp_path / train.format(name), *numbered(5))
    if test:
        touch(tmp_path / held_out, *numbered(2))
    spec, images = spec_and_images(tmp_path)
    assert (spec.class_names, spec.unlabelled) == ((name, "anomalous"), False)
    expected = {(f"{train.format(name)}/{image}", "train", name) for image in numbered(5)}
    if test:
        expected |= {(f"{held_out}/{image}", "test", name) for image in numbered(2)}
    assert images == expected
    assert "as " + name in spec.layout.reading_notes(spec, tmp_path)[0]


def test_the_minority_to_come_has_the_name_that_is_given(tmp_path):
    touch(tmp_path / "good", *numbered(5))
    assert spec_and_images(tmp_path, "scratched")[0].class_names == ("good", "scratched")


@pytest.mark.parametrize(
    "name", ["bad", "NG", "defective", "abnormal", "scratches", "not_ok", "cracked", "fail"]
)
def test_a_single_folder_that_sounds_like_the_minority_is_asked_about(tmp_path, name):
    touch(tmp_path / name, *numbered(5))
    with pytest.raises(
        UsageError, match=rf"'{name}', which sounds .* --normal {name}\. .* --minority {name}\."
    ):
        resolve_dataset(str(tmp_path))
    assert spec_and_images(tmp_path, normal=name.lower())[0].class_names == (name, "anomalous")


def test_a_single_folder_that_is_said_to_be_the_minority_leaves_nothing_to_learn_from(tmp_path):
    touch(tmp_path / "good", *numbered(5))
    with pytest.raises(UsageError, match="nothing can be learned without normal images"):
        resolve_dataset(str(tmp_path), Said("good"))
    with pytest.raises(UsageError, match=r"--normal god is none of the classes good\. Did you mean 'good'"):
        resolve_dataset(str(tmp_path), Said(normal="god"))


def test_a_flat_folder_has_no_labels_unless_its_images_are_said_to_be_normal(tmp_path):
    touch(tmp_path / "flat", *numbered(5))
    spec, images = spec_and_images(tmp_path / "flat")
    assert (spec.class_names, spec.unlabelled) == (("normal", "anomalous"), True)
    assert images == {(image, "train", "normal") for image in numbered(5)}
    assert "without labels" in spec.layout.reading_notes(spec, tmp_path / "flat")[0]
    spec, _ = spec_and_images(tmp_path / "flat", normal="ok")
    assert (spec.class_names, spec.unlabelled) == (("ok", "anomalous"), False)


def test_unlabelled_takes_all_images_whatever_their_folders(tmp_path):
    touch(tmp_path, *numbered(2))
    touch(tmp_path / "train" / "good", *numbered(3))
    touch(tmp_path / "test" / "hole", *numbered(4))
    spec, images = spec_and_images(tmp_path, unlabelled=True)
    assert spec.unlabelled
    assert (len(images), {label for *_, label in images}) == (9, {"normal"})


def test_folders_and_images_side_by_side_are_asked_about(tmp_path):
    touch(tmp_path, *numbered(2))
    touch(tmp_path / "good", *numbered(3))
    with pytest.raises(UsageError, match=r"holds images itself, .* --normal good .* or --unlabelled"):
        resolve_dataset(str(tmp_path))
    assert len(spec_and_images(tmp_path, normal="good")[1]) == 3
    assert len(spec_and_images(tmp_path, unlabelled=True)[1]) == 5


def test_classes_one_folder_deeper_are_not_taken_for_normal_images(tmp_path):
    touch(tmp_path / "parts" / "good", *numbered(9))
    touch(tmp_path / "parts" / "bad", *numbered(3))
    with pytest.raises(
        UsageError, match=r"its only folder, parts, holds the folders bad, good\. .*--normal parts"
    ):
        resolve_dataset(str(tmp_path))
    assert len(spec_and_images(tmp_path, normal="parts")[1]) == 12


def test_normal_makes_all_other_folders_the_minority(tmp_path):
    for name, count in (("good", 4), ("dent", 9), ("hole", 3)):
        touch(tmp_path / name, *numbered(count))
    spec, images = spec_and_images(tmp_path, normal="GOOD")
    assert spec.class_names == ("good", "anomalous")
    assert {label for *_, label in images} == {"good", "anomalous"}
    assert spec_and_images(tmp_path, "defect", normal="good")[0].class_names == ("good", "defect")
    with pytest.raises(UsageError, match="--minority hole is one of these classes"):
        resolve_dataset(str(tmp_path), Said("hole", "good"))


def test_of_two_classes_the_one_that_is_not_normal_is_the_minority(tmp_path):
    touch(tmp_path / "good", *numbered(3))
    touch(tmp_path / "bad", *numbered(9))
    with pytest.raises(UsageError, match=r"not obvious .* --minority NAME, or say --normal good\."):
        resolve_dataset(str(tmp_path))
    assert spec_and_images(tmp_path, normal="good")[0].minority == "bad"


def test_what_is_said_must_agree(tmp_path):
    touch(tmp_path, *numbered(5))
    with pytest.raises(UsageError, match=r"--unlabelled says .* and --normal ok"):
        resolve_dataset(str(tmp_path), Said(normal="ok", unlabelled=True))
    with pytest.raises(UsageError, match="--normal and --minority both name OK"):
        resolve_dataset(str(tmp_path), Said("ok", "OK"))


def test_what_is_said_holds_for_the_catalogue_too():
    assert resolve_dataset("gender", Said(normal="Female")).document["minority"] == "male"
    assert resolve_dataset("gender", Said(unlabelled=True)).document["unlabelled"] is True
    with pytest.raises(UsageError, match="which is the minority"):
        resolve_dataset("mnist_lt", Said(normal="one"))


@pytest.mark.parametrize("classes", [[], ["only"]])
def test_folder_without_images(tmp_path, classes):
    for name in classes:
        (tmp_path / name).mkdir()
    with pytest.raises(
        DataError,
        match=f"no images that could be a data set; its folders: {classes[0] if classes else 'none'}",
    ):
        resolve_dataset(str(tmp_path))
    (tmp_path / "1.img").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00")
    with pytest.raises(DataError, match=r"\.img"):
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
    assert resolve_dataset(str(tmp_path / "one"), Said("NG")).document["minority"] == "ng"
    assert resolve_dataset("covid", Said("covid")).document["minority"] == "COVID"
    for name in ("ok", "ng", "Ng"):
        touch(tmp_path / "two" / name, *numbered(4))
    assert resolve_dataset(str(tmp_path / "two"), Said("Ng")).document["minority"] == "Ng"
    assert resolve_dataset(str(tmp_path / "two"), Said("NG")).document["minority"] == "NG"


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
