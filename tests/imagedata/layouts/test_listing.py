"""Which files belong to a data set, and what is said where some are missing."""

import os
import sys
from pathlib import Path

import pytest

from contracts.errors import DataError, ExitCode
from imagedata.layouts.listed_image import ListedImage
from imagedata.layouts.said import Said
from imagedata.layouts.walk import image_files
from imagedata.resolve import resolve_dataset
from imagedata.spec import DataSpec


def catalogue(name: str, **changes: object) -> DataSpec:
    return DataSpec.model_validate({**resolve_dataset(name).document, **changes})


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def folders(**layout: object) -> DataSpec:
    return DataSpec.model_validate(
        {
            "name": "toys",
            "layout": {"kind": "class_folders", **layout},
            "classes": ["a", "b"],
            "minority": "b",
        }
    )


def table(tmp_path: Path, text: str, **layout: object) -> DataSpec:
    (tmp_path / "labels.csv").write_text(text)
    return DataSpec.model_validate(
        {
            "name": "listed",
            "layout": {
                "kind": "label_table",
                "table": "labels.csv",
                "columns": ["path", "label"],
                "separator": ",",
                "label_column": "label",
                "values_of_class": {"a": ["0"], "b": ["1", "2"]},
                **layout,
            },
            "classes": ["a", "b"],
            "minority": "b",
        }
    )


def test_image_files_are_sorted_visible_and_named_like_images(tmp_path):
    touch(*(tmp_path / name for name in ("b.PNG", "a.jpg", ".c.jpg", "d.txt", "e", "x/f.TIFF", ".y/g.png")))
    assert [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)] == [
        "a.jpg",
        "b.PNG",
        "x/f.TIFF",
    ]


def test_links_to_files_count_and_links_to_folders_do_not(tmp_path):
    touch(tmp_path / "real.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert [path.name for path in image_files(tmp_path)] == ["link.png", "real.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_name_that_is_not_text(tmp_path):
    try:
        (Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.png"))).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes text only")
    with pytest.raises(DataError, match=r"caf\\xe9\.png: its name is not UTF-8\. Rename it"):
        list(image_files(tmp_path))


def test_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    touch(tmp_path / "sub" / "1.png")
    scan = os.scandir

    def forbidden(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(DataError, match=r"sub: cannot be read: Permission denied\."):
        list(image_files(tmp_path))


@pytest.mark.parametrize("below", ["covid/", ""])
def test_kaggle_layout_is_found_with_and_without_its_own_folder(tmp_path, below):
    for name in ("COVID", "Normal"):
        touch(tmp_path / f"{below}COVID-19_Radiography_Dataset/{name}/images/1.png")
    spec = catalogue("covid")
    listed = spec.list_images(spec.find(tmp_path))
    assert listed == [
        ListedImage("COVID-19_Radiography_Dataset/COVID/images/1.png", "COVID", "train"),
        ListedImage("COVID-19_Radiography_Dataset/Normal/images/1.png", "Normal", "train"),
    ]


def test_missing_data_shows_the_tree_that_is_expected(tmp_path):
    spec = catalogue("covid")
    tree = (
        "  covid/COVID-19_Radiography_Dataset/Normal/images/Normal-1.png\n"
        "  covid/COVID-19_Radiography_Dataset/COVID/images/COVID-1.png"
    )
    assert spec.expected_tree() == tree
    with pytest.raises(DataError) as caught:
        spec.find(tmp_path)
    assert str(caught.value).startswith(
        f"covid: not found in {tmp_path}/covid, {tmp_path}. Get it from Kaggle"
    )
    assert str(caught.value).endswith(tree)
    assert caught.value.exit_code == ExitCode.DATA


def test_no_data_directory_says_how_to_name_one():
    with pytest.raises(DataError, match="Use --data DIR or set OUTNUMBERED_DATA"):
        catalogue("gender").find(None)


def test_half_a_tree_names_the_missing_half(tmp_path):
    touch(tmp_path / "gender/Training/male/1.png", tmp_path / "gender/Training/female/1.png")
    with pytest.raises(
        DataError, match=r"gender lacks Validation/male, Validation/female\. Get it from Kaggle"
    ):
        catalogue("gender").find(tmp_path)


@pytest.mark.parametrize("empty", ["train/a", "test/a"])
def test_every_class_must_have_images_in_every_split_that_the_set_brings(tmp_path, empty):
    for place in ("train/a", "train/b", "test/a", "test/b"):
        touch(tmp_path / place / ("notes.txt" if place == empty else "1.png"))
    spec = folders(train="train/{class}", test="test/{class}")
    with pytest.raises(
        DataError, match=f"toys: class {empty[-1]} has no images in .*{empty}. Put some there"
    ):
        spec.list_images(spec.find(tmp_path))


@pytest.mark.parametrize("empty", ["train/b", "test/b"])
def test_the_folder_of_the_minority_may_be_empty_but_not_of_images_that_are_not_read(tmp_path, empty):
    for place in ("train/a", "train/b", "test/a", "test/b"):
        touch(tmp_path / place / ("notes.txt" if place == empty else "1.png"))
    spec = folders(train="train/{class}", test="test/{class}")
    assert len(spec.list_images(spec.find(tmp_path))) == 3
    (tmp_path / empty / "1.img").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00")
    with pytest.raises(DataError, match=f"class b has no images in .*{empty}, but "):
        spec.list_images(spec.find(tmp_path))


def test_kinds_of_a_class_are_subtypes_and_may_be_missing_in_a_split(tmp_path):
    for place in ("train/a", "train/hole", "train/dent", "test/a", "test/dent"):
        touch(tmp_path / place / "1.png")
    spec = folders(train="train/{class}", test="test/{class}", kinds_of_class={"b": ["dent", "hole"]})
    listed = spec.list_images(spec.find(tmp_path))
    assert {(image.path, image.label, image.subtype) for image in listed} == {
        ("train/a/1.png", "a", None),
        ("test/a/1.png", "a", None),
        ("train/hole/1.png", "b", "hole"),
        ("train/dent/1.png", "b", "dent"),
        ("test/dent/1.png", "b", "dent"),
    }


def test_class_folders_may_be_named_otherwise(tmp_path):
    touch(tmp_path / "0" / "1.png", tmp_path / "1" / "1.png")
    spec = folders(folder_of_class={"a": "0", "b": "1"})
    assert [(image.path, image.label) for image in spec.list_images(tmp_path)] == [
        ("0/1.png", "a"),
        ("1/1.png", "b"),
    ]


def test_label_table(tmp_path):
    spec = table(tmp_path, "\ufeffx/1.png,0\n\nx/2.png, 1\nx/3.png,2\nx/4.png,unsure\n")
    assert [(image.path, image.label) for image in spec.list_images(tmp_path)] == [
        ("x/1.png", "a"),
        ("x/2.png", "b"),
        ("x/3.png", "b"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.png,0\n2.png\n", r"labels\.csv, line 2: 1 cells but 2 columns \(path, label\)"),
        ("1.png,0\n/abs/2.png,1\n", r"line 2: /abs/2\.png lies outside"),
        ("1.png,0\n", r"class b has no images in .*labels\.csv"),
    ],
)
def test_label_table_with_a_fault(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        table(tmp_path, text).list_images(tmp_path)


def test_label_table_that_is_not_text(tmp_path):
    spec = table(tmp_path, "")
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not readable as UTF-8"):
        spec.list_images(tmp_path)


@pytest.mark.parametrize("package", ["no_such_package_of_ours", "no_such_package_of_ours.data", ""])
def test_package_that_is_not_installed(tmp_path, package):
    spec = table(tmp_path, "1.png,0\n2.png,1\n", package=package or "no_such.package")
    with pytest.raises(DataError, match=r"is not installed\. Get it with"):
        spec.find(None)


def test_elpv_lists_the_certain_cells_and_no_others():
    pytest.importorskip("elpv_dataset")
    spec = catalogue("elpv")
    root = spec.find(None)
    listed = spec.list_images(root)
    count = {name: sum(image.label == name for image in listed) for name in spec.class_names}
    assert count == {"functional": 1508, "defective": 715}
    assert all((root / image.path).is_file() for image in listed[::50])


@pytest.mark.shared_data
def test_real_copies(shared_data):
    for name, counts in {
        "gender_B": {"male": 1173, "female": 1134},
        "covid": {"Normal": 500, "COVID": 124},
    }.items():
        spec = catalogue(name)
        listed = spec.list_images(spec.find(shared_data))
        assert {label: sum(image.label == label for image in listed) for label in spec.class_names} == counts


JUNK = ("__MACOSX/._1.png", ".ipynb_checkpoints/1.png", ".git/1.png", "@eaDir/1.png", "Thumbs.db", "._2.png")


def test_junk_and_folders_of_notes_are_no_classes(tmp_path):
    files = [f"{name}/{number}.png" for name in ("good", "bad") for number in range(3)]
    notes = ["README.md", "labels.csv", "scripts/plot.py", "labels/1.txt", "desktop.ini"]
    touch(*(tmp_path / each for each in (*files, *JUNK, *notes, *(f"good/{junk}" for junk in JUNK))))
    found = resolve_dataset(str(tmp_path), Said("bad")).document
    assert found["classes"] == ["bad", "good"]
    spec = DataSpec.model_validate(found)
    assert sorted(image.path for image in spec.list_images(tmp_path)) == sorted(files)


def test_an_empty_class_folder_is_still_one(tmp_path):
    touch(tmp_path / "good/1.png")
    (tmp_path / "bad").mkdir()
    spec = DataSpec.model_validate(resolve_dataset(str(tmp_path), Said("bad")).document)
    assert spec.class_names == ("good", "bad")
    assert [image.label for image in spec.list_images(tmp_path)] == ["good"]


def test_junk_in_a_tree_of_anomalies(tmp_path):
    files = ["train/good/1.png", "test/good/2.png", "test/hole/3.png", "test/crack/4.png"]
    junk = [f"{split}/{each}" for split in ("train", "test", "test/hole") for each in JUNK]
    touch(*(tmp_path / each for each in (*files, *junk, "train/notes/a.txt", "ground_truth/hole/._3.png")))
    spec = DataSpec.model_validate(resolve_dataset(str(tmp_path)).document)
    found = spec.list_images(tmp_path)
    assert sorted(image.path for image in found) == sorted(files)
    assert {image.subtype for image in found} == {"good", "hole", "crack"}
    assert all(image.mask is None for image in found)


def test_images_of_other_endings_are_counted(tmp_path):
    touch(*(tmp_path / f"{name}/{number}.png" for name in ("a", "b") for number in range(3)))
    touch(tmp_path / "a/notes.txt", tmp_path / "a/Thumbs.db", tmp_path / "elsewhere.bak")
    for name in ("a/1.PNG.bak", "a/sub/2.PNG.bak", "b/IMG_1", "a/._3.bak", "elsewhere.bak"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    spec = folders()
    assert spec.layout.images_of_other_endings(spec, tmp_path) == {".bak": 2, "no ending": 1}


def test_a_class_whose_images_all_end_otherwise_says_so(tmp_path):
    touch(tmp_path / "a/1.png", tmp_path / "b/x")
    (tmp_path / "b/1.PNG.bak").write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    with pytest.raises(DataError, match=r"class b has no images in .*, but 1 image ends in \.bak"):
        folders().list_images(tmp_path)
