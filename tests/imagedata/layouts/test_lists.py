"""Lists as people have them: how each is read, what is said about it, and which rows are refused."""

from pathlib import Path

import pytest

from contracts.errors import DataError, UsageError
from imagedata.layouts.listed_image import ListedImage
from imagedata.spec import DataSpec
from workflow.run.reading import reading_of
from workflow.settings.config import RunConfig, RunOptions, resolve_config

NAMES = ("a", "b", "c", "d")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def config_of(table: Path, *overrides: str, minority: str = "bad") -> RunConfig:
    return resolve_config(RunOptions(str(table), overrides=overrides, minority=minority))


def listed_of(config: RunConfig) -> list[ListedImage]:
    spec: DataSpec = config.spec
    return spec.list_images(spec.find(config.data_dir))


def labels_of(config: RunConfig) -> dict[str, str]:
    return {image.path: image.label for image in listed_of(config)}


@pytest.mark.parametrize(
    ("name", "text", "separator"),
    [
        ("l.csv", "path,label\na.jpg,ok\nb.jpg,ok\nc.jpg,bad\n", "commas"),
        ("l.csv", "path;label\na.jpg;ok\nb.jpg;ok\nc.jpg;bad\n", "semicolons"),
        ("l.csv", "path\tlabel\na.jpg\tok\nb.jpg\tok\nc.jpg\tbad\n", "tabs"),
        ("l.tsv", "path,label\na.jpg,ok\nb.jpg,ok\nc.jpg,bad\n", "commas"),
        ("l.txt", "path;label\na.jpg;ok\nb.jpg;ok\nc.jpg;bad\n", "semicolons"),
        ("l.txt", "a.jpg,ok\nb.jpg,ok\nc.jpg,bad\n", "commas"),
        ("l.csv", "sep=;\npath;label\na.jpg;ok\nb.jpg;ok\nc.jpg;bad\n", "semicolons"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_separator_mark_and_line_ends_are_sniffed(tmp_path, name, text, separator, mark, newline):
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / name).write_bytes((mark + text).replace("\n", newline).encode())
    config = config_of(tmp_path / name)
    assert labels_of(config) == {"a.jpg": "ok", "b.jpg": "ok", "c.jpg": "bad"}
    assert reading_of(config)["reading"] == [
        f"Read {name}: 3 rows separated by {separator}; paths from 'path', labels from 'label'."
    ]


@pytest.mark.parametrize(
    "path", ["path", "File", "FILENAME", "image", "image_id", "img_name", "ID", "file name"]
)
@pytest.mark.parametrize("label", ["label", "Class", "TARGET", "category", "y"])
def test_usual_names_of_columns(tmp_path, path, label):
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "l.csv").write_text(f"{label},{path}\nok,a.jpg\nok,b.jpg\nbad,c.jpg\n")
    assert labels_of(config_of(tmp_path / "l.csv")) == {"a.jpg": "ok", "b.jpg": "ok", "c.jpg": "bad"}


@pytest.mark.parametrize("group", ["Group", "patient", "patient_id", "LOT"])
@pytest.mark.parametrize("split", ["split", "Fold", "set"])
def test_usual_names_of_groups_and_splits(tmp_path, group, split):
    touch(tmp_path, *(f"{name}.jpg" for name in NAMES))
    rows = ["a.jpg,ok,p1,Train", "b.jpg,bad,p1,train", "c.jpg,ok,p2,TEST", "d.jpg,bad,p2,testing"]
    (tmp_path / "l.csv").write_text("\n".join([f"path,label,{group},{split}", *rows]))
    found = {(image.path, image.group, image.split) for image in listed_of(config_of(tmp_path / "l.csv"))}
    assert found == {
        ("a.jpg", "p1", "train"),
        ("b.jpg", "p1", "train"),
        ("c.jpg", "p2", "test"),
        ("d.jpg", "p2", "test"),
    }


def test_numbers_of_folds_are_no_splits(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "l.csv").write_text("path,label,fold\na.jpg,ok,0\nb.jpg,bad,1\n")
    config = config_of(tmp_path / "l.csv")
    assert {image.split for image in listed_of(config)} == {"train"}
    assert "not read: 'fold'" in reading_of(config)["reading"][0]


def test_kaggles_ids_index_and_one_hot_labels(tmp_path):
    touch(tmp_path / "images", "x1.jpg", "x2.jpg", "x3.jpg", "extra.jpg")
    text = "Unnamed: 0,image_id,patient_id,ok,bad\n0,x1,p,1,0\n1,x2,p,1.0,0\n2,x3,q,0,1\n"
    (tmp_path / "labels.csv").write_text(text)
    config = config_of(tmp_path / "labels.csv")
    assert {(image.path, image.label, image.group) for image in listed_of(config)} == {
        ("images/x1.jpg", "ok", "p"),
        ("images/x2.jpg", "ok", "p"),
        ("images/x3.jpg", "bad", "q"),
    }
    assert reading_of(config) == {
        "reading": [
            "Read labels.csv: 3 rows separated by commas; paths from 'image_id' (.jpg added, found in "
            "folders below the list), labels from one-hot columns ok, bad, groups from 'patient_id'."
        ],
        "unused_images": {"images": 1},
    }


@pytest.mark.parametrize("index", ["", "index", "Unnamed: 0"])
def test_an_index_is_no_label(tmp_path, index):
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "l.csv").write_text(f"{index},path,ok,bad\n0,a.jpg,1,0\n1,b.jpg,0,1\n")
    assert labels_of(config_of(tmp_path / "l.csv")) == {"a.jpg": "ok", "b.jpg": "bad"}


@pytest.mark.parametrize(
    "paths",
    [
        ("ok\\a.jpg", "bad\\a.jpg"),
        ("D:\\sets\\mine\\ok\\a.jpg", "D:\\sets\\mine\\bad\\a.jpg"),
        ("ok/a", "bad/a"),
    ],
)
def test_paths_of_windows_and_without_ending(tmp_path, paths):
    touch(tmp_path, "ok/a.jpg", "bad/a.jpg")
    rows = zip(paths, ("ok", "bad"), strict=True)
    (tmp_path / "l.csv").write_text("path,label\n" + "\n".join(map(",".join, rows)))
    assert labels_of(config_of(tmp_path / "l.csv")) == {"ok/a.jpg": "ok", "bad/a.jpg": "bad"}


def test_a_drive_is_never_guessed_across_folders(tmp_path):
    touch(tmp_path, "bad/a.jpg", "ok/b.jpg")
    (tmp_path / "l.csv").write_text("path,label\nD:\\x\\ok\\a.jpg,ok\nok\\b.jpg,ok\nbad\\a.jpg,bad\n")
    with pytest.raises(DataError, match=r"no such file: 1 \(row 2: D:.x.ok.a\.jpg\)"):
        listed_of(config_of(tmp_path / "l.csv"))


def test_a_name_that_fits_several_files_is_refused_until_a_folder_is_named(tmp_path):
    touch(tmp_path, "train/a.jpg", "train/b.jpg", "test/a.jpg")
    (tmp_path / "l.csv").write_text("id,label\na,ok\nb,bad\n")
    with pytest.raises(
        DataError, match=r"fits several files: 1 \(row 2: a may be test/a\.jpg or train/a\.jpg\)"
    ):
        listed_of(config_of(tmp_path / "l.csv"))
    config = config_of(tmp_path / "l.csv", "layout.image_folder=train")
    assert labels_of(config) == {"train/a.jpg": "ok", "train/b.jpg": "bad"}


def test_columns_under_other_names_are_stated(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "l.csv").write_text("scan,dx\na.jpg,ok\nb.jpg,bad\n")
    with pytest.raises(DataError, match=r"no column 'path'.*-o layout\.path_column"):
        config_of(tmp_path / "l.csv")
    config = config_of(tmp_path / "l.csv", "layout.path_column=scan", "layout.label_column=dx")
    assert labels_of(config) == {"a.jpg": "ok", "b.jpg": "bad"}
    with pytest.raises(UsageError, match=r"unknown key 'layout\.lable_column'"):
        config_of(
            tmp_path / "l.csv", "layout.path_column=scan", "layout.label_column=dx", "layout.lable_column=x"
        )


def test_bad_rows_are_skipped_on_request_and_counted(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    rows = ["a.jpg,1,0", "a.jpg,0,1", "b.jpg,1,0", "b.jpg,1,0", "c.jpg,0,1", "d.jpg,1,1", "gone.jpg,0,1"]
    (tmp_path / "l.csv").write_text("\n".join(["path,ok,bad", *rows]))
    with pytest.raises(DataError, match="5 of 7 rows cannot be used"):
        listed_of(config_of(tmp_path / "l.csv"))
    config = config_of(tmp_path / "l.csv", "layout.skip_bad_rows=true")
    assert labels_of(config) == {"b.jpg": "ok", "c.jpg": "bad"}
    assert reading_of(config)["reading"][1] == (
        "Rows of l.csv that were skipped: 5. not exactly one label: 1; no such file: 1; contradicts another "
        "row: 2; repeats another row: 1."
    )


def test_validation_rows_join_training_or_are_the_test_set(tmp_path):
    touch(tmp_path, *(f"{name}.jpg" for name in "abcdef"))
    rows = ["a.jpg,ok,train", "b.jpg,bad,train", "c.jpg,ok,val", "d.jpg,bad,Valid"]
    (tmp_path / "l.csv").write_text("\n".join(["path,label,split", *rows]))
    config = config_of(tmp_path / "l.csv")
    assert [image.split for image in listed_of(config)] == ["test", "test", "train", "train"]
    assert "The test set is the validation rows of l.csv" in reading_of(config)["reading"][1]
    rows += ["e.jpg,ok,test", "f.jpg,bad,test"]
    (tmp_path / "l.csv").write_text("\n".join(["path,label,split", *rows]))
    assert [image.path for image in listed_of(config) if image.split == "test"] == ["e.jpg", "f.jpg"]
    assert reading_of(config)["reading"][1].startswith("2 validation images join the training images")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "path\na.jpg\nb b.jpg\n"),
        ("l.csv", ",file,patient,split\n0,a.jpg,p1,train\n1,b b.jpg,p2,train\n"),
        ("l.txt", "a.jpg\nb b.jpg\n"),
    ],
)
def test_a_list_of_paths_is_a_set_without_labels(tmp_path, name, text):
    touch(tmp_path, "a.jpg", "b b.jpg")
    (tmp_path / name).write_text(text)
    config = config_of(tmp_path / name)
    assert config.spec.unlabelled
    assert labels_of(config) == {"a.jpg": "normal", "b b.jpg": "normal"}
    assert "no labels" in reading_of(config)["reading"][0]


def test_a_column_that_may_hold_labels_is_asked_about(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "l.csv").write_text("path,quality\na.jpg,ok\nb.jpg,bad\n")
    with pytest.raises(
        DataError, match=r"no column 'label', only path, quality\. .* read with --unlabelled\."
    ):
        config_of(tmp_path / "l.csv")
    config = config_of(tmp_path / "l.csv", "layout.label_column=null")
    assert labels_of(config) == {"a.jpg": "normal", "b.jpg": "normal"}


def test_a_list_with_one_label_is_normal_unless_it_sounds_otherwise(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "l.csv").write_text("path,label\na.jpg,ok\nb.jpg,ok\n")
    config = config_of(tmp_path / "l.csv")
    assert (config.spec.class_names, config.spec.unlabelled) == (("ok", "bad"), False)
    assert labels_of(config) == {"a.jpg": "ok", "b.jpg": "ok"}
    (tmp_path / "l.csv").write_text("path,label\na.jpg,bad\nb.jpg,bad\n")
    with pytest.raises(UsageError, match="all its images are of 'bad'"):
        config_of(tmp_path / "l.csv")


def test_a_slip_in_the_name_of_the_minority_is_no_set_of_normal_images(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "l.csv").write_text("path,label\na.jpg,ok\nb.jpg,bad\n")
    with pytest.raises(DataError, match="class bda has no images"):
        listed_of(config_of(tmp_path / "l.csv", "classes=[ok,bda]", "minority=bda"))


def test_normal_makes_all_other_labels_the_minority(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "l.csv").write_text("path,label\na.jpg,ok\nb.jpg,dent\nc.jpg,hole\n")
    config = resolve_config(RunOptions(str(tmp_path / "l.csv"), normal="ok"))
    assert labels_of(config) == {"a.jpg": "ok", "b.jpg": "anomalous", "c.jpg": "anomalous"}
