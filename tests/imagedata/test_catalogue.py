"""Every set of the catalogue: what is said where it is missing, and what its tree becomes."""

import importlib.util
from collections import Counter

import pytest

from contracts.errors import DataError
from imagedata.manifest import Manifest
from imagedata.resolve import catalogue_names, resolve_dataset
from imagedata.spec import DataSpec
from tests.conftest import run_command
from tests.imagedata.trees import idc_tree, manifest_of, mvtec_tree, noise, spec_of


@pytest.mark.parametrize("name", catalogue_names())
@pytest.mark.parametrize("place", ["empty folder", "nowhere"])
def test_set_that_is_not_there_says_where_to_get_it_and_the_exact_tree(name, place, tmp_path, monkeypatch):
    monkeypatch.delenv("OUTNUMBERED_DATA", raising=False)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda package, *a: None if "elpv" in package else found(package, *a)
    )
    runs = tmp_path / "runs"
    (tmp_path / "empty").mkdir()
    arguments = ["train-all", name, "--runs", runs, "--dry-run"]
    if name == "fashion_mnist_lt":  # which Debian puts where it is found without being asked for
        arguments += ["-o", "layout.roots=[fashion-mnist]"]
    if place == "empty folder":
        arguments += ["--data", tmp_path / "empty"]
    outcome = run_command(*arguments)
    assert outcome.code == 3
    spec = DataSpec.model_validate(resolve_dataset(name).document)
    assert " ".join(spec.source.split()) in outcome.said
    for line in spec.expected_tree().splitlines():
        if name != "fashion_mnist_lt":
            assert " ".join(line.split()) in outcome.said
    assert "/" in spec.expected_tree()
    assert outcome.said.startswith(f"Error: {name}: ")
    assert not runs.exists()


@pytest.mark.parametrize("name", ["idc", "idc_20", "idc_random"])
def test_idc_is_found_by_its_patients_and_not_twice(tmp_path, name):
    root = idc_tree(tmp_path / "idc")
    idc_tree(tmp_path / "idc" / "IDC_regular_ps50_idx5", patients=1)  # the archive holds all of it again
    listed = spec_of(name).list_images(spec_of(name).find(tmp_path))
    assert Counter(image.label for image in listed) == {"benign": 64, "carcinoma": 16}
    assert spec_of(name).find(root / "IDC_regular_ps50_idx5").name == "IDC_regular_ps50_idx5"


def test_no_patient_of_idc_lies_on_both_sides(tmp_path):
    idc_tree(tmp_path / "idc", patients=12)
    manifest = manifest_of(spec_of("idc").model_copy(update={"test_share": 0.2}), tmp_path)
    patients = {split: {row.group for row in manifest.usable(split)} for split in ("train", "test")}
    assert all(row.group == row.path.split("/")[0] for row in manifest.rows)
    assert patients["test"]
    assert not patients["train"] & patients["test"]


def test_the_random_variant_lets_patients_cross_and_says_so(tmp_path):
    idc_tree(tmp_path / "idc", patients=12)
    manifest = manifest_of(spec_of("idc_random").model_copy(update={"test_share": 0.2}), tmp_path)
    sides = [{row.path.split("/")[0] for row in manifest.usable(split)} for split in ("train", "test")]
    assert sides[0] & sides[1]
    assert "only to show that leak" in spec_of("idc_random").title


def test_a_fifth_of_each_class_by_a_draw_that_the_seed_decides(tmp_path):
    idc_tree(tmp_path / "idc", patients=30, patches=20)
    spec = spec_of("idc_20")
    manifests = [manifest_of(spec, tmp_path, seed) for seed in (0, 0, 1)]
    kept = [{row.path for row in manifest.rows if row.status == "ok"} for manifest in manifests]
    assert kept[0] == kept[1] != kept[2]
    by_class = Counter(row.label for row in manifests[0].rows if row.status == "ok")
    everything = Counter(row.label for row in manifests[0].rows)
    assert by_class == {name: round(count * 0.2) for name, count in everything.items()}
    dropped = next(row for row in manifests[0].rows if row.status == "dropped")
    assert dropped.reason == "20% of each class kept"


def test_therapanacea_pairs_lines_with_numbered_images(tmp_path):
    folder = tmp_path / "therapanacea"
    for number, label in enumerate([1, 1, 0, 1], start=1):
        noise(folder / "train_img" / f"{number}.jpg", number)
        with (folder / "label_train.txt").open("a") as table:
            table.write(f"{label}\n")
    spec = spec_of("therapanacea")
    listed = spec.list_images(spec.find(tmp_path))
    assert {image.path: image.label for image in listed} == {
        "train_img/1.jpg": "label_1",
        "train_img/2.jpg": "label_1",
        "train_img/3.jpg": "label_0",
        "train_img/4.jpg": "label_1",
    }
    assert spec.class_names[-1] == "label_0"


@pytest.mark.parametrize("below", ["mvtec/bottle", "bottle", "mvtec_anomaly_detection/bottle"])
def test_mvtec_moves_half_of_each_kind_and_knows_the_masks(tmp_path, below):
    mvtec_tree(tmp_path / below)
    manifest = manifest_of(spec_of("mvtec_bottle"), tmp_path)
    moved = Counter(row.subtype for row in manifest.usable("train") if row.label == "anomalous")
    stayed = Counter(row.subtype for row in manifest.usable("test") if row.label == "anomalous")
    assert moved == {"kind_0": 2, "kind_1": 4}
    assert stayed == {"kind_0": 2, "kind_1": 3}
    assert manifest.counts("train")["good"] == 12
    assert manifest.counts("test")["good"] == 5
    for row in manifest.rows:
        assert (row.mask is not None) == (row.label == "anomalous")
        assert row.mask is None or (manifest.root / row.mask).is_file()
    manifest.write(tmp_path / "manifest.parquet")
    assert Manifest.read(tmp_path / "manifest.parquet") == manifest


def test_anomalies_are_moved_by_a_count_and_a_seed(tmp_path):
    mvtec_tree(tmp_path / "bottle", kinds=(4, 8))
    spec = spec_of("mvtec_bottle")
    spec = spec.model_copy(update={"layout": spec.layout.model_copy(update={"moved_count": 6})})
    sets = []
    for seed in (0, 0, 1):
        rows = manifest_of(spec, tmp_path, seed).usable("train")
        assert Counter(row.subtype for row in rows if row.label == "anomalous") == {"kind_0": 2, "kind_1": 4}
        sets.append({row.path for row in rows})
    assert sets[0] == sets[1] != sets[2]


def with_layout_changes(**changes):
    spec = spec_of("mvtec_bottle")
    return spec.model_copy(update={"layout": spec.layout.model_copy(update=changes)})


def test_the_test_set_needs_anomalies(tmp_path):
    mvtec_tree(tmp_path / "bottle")
    with pytest.raises(DataError, match=r"layout\.moved_count=11 would move 11 of 11 anomalies"):
        manifest_of(with_layout_changes(moved_count=11), tmp_path)


def test_mvtec_by_its_own_protocol_trains_on_normal_images_and_tests_on_all_anomalies(tmp_path):
    mvtec_tree(tmp_path / "bottle")
    manifest = manifest_of(with_layout_changes(moved_share=0.0), tmp_path)
    assert manifest.regime == "normal_only"
    assert manifest.counts("train")["anomalous"] == 0
    assert manifest.counts("test")["anomalous"] == 11


def test_equal_anomalies_move_together(tmp_path):
    root = mvtec_tree(tmp_path / "bottle")
    for copy in range(3):
        (root / "test" / "kind_0" / f"copy{copy}.png").write_bytes(
            (root / "test" / "kind_0" / "000.png").read_bytes()
        )
    for seed in range(5):
        manifest = manifest_of(spec_of("mvtec_bottle"), tmp_path, seed)
        digests = [{row.sha256 for row in manifest.usable(split)} for split in ("train", "test")]
        assert not digests[0] & digests[1]


def test_a_folder_like_mvtec_needs_no_spec(tmp_path):
    mvtec_tree(tmp_path / "castings")
    resolved = resolve_dataset(str(tmp_path / "castings"))
    assert resolved.is_folder
    manifest = manifest_of(DataSpec.model_validate(resolved.document), tmp_path / "castings")
    assert manifest.class_names == ("good", "anomalous")
    assert manifest.counts("train") == {"good": 12, "anomalous": 6}


def test_elpv_records_the_kind_of_cell_and_takes_other_thresholds():
    pytest.importorskip("elpv_dataset")
    spec = spec_of("elpv")
    assert {image.subtype for image in spec.list_images(spec.find(None))} == {
        "mono",
        "poly",
    }
    layout = {
        **resolve_dataset("elpv").document["layout"],
        "values_of_class": {"functional": ["0..0.4"], "defective": ["0.6..1"]},
    }
    spec = spec_of("elpv", layout=layout)
    counts = Counter(image.label for image in spec.list_images(spec.find(None)))
    assert counts == {"functional": 1508 + 295, "defective": 715 + 106}
