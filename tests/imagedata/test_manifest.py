"""What becomes of every image: broken, leaking, held out, dropped; for arithmetic and for random sets."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import DataError
from imagedata.decoding.decode import DecodeSettings
from imagedata.inspection import Inspection, InspectionJournal
from imagedata.layouts.listed_image import ListedImage
from imagedata.manifest import Manifest, build_manifest
from imagedata.resolve import resolve_dataset
from imagedata.spec import DataSpec
from tests import hostile
from tests.pictures import write_two_classes

ROOT = Path("/somewhere")


def spec_of(**changes: object) -> DataSpec:
    return DataSpec.model_validate(
        {
            "name": "toys",
            "layout": {"kind": "class_folders"},
            "classes": ["a", "b"],
            "minority": "b",
            "test_per_class": 1,
            **changes,
        }
    )


WITH_TEST_FOLDER = {
    "layout": {"kind": "class_folders", "train": "train/{class}", "test": "test/{class}"},
    "test_per_class": None,
}


def finding(content: object, problem: str = "") -> Inspection:
    return Inspection(hashlib.sha256(repr(content).encode()).hexdigest(), 9, 9, "RGB", problem)


def manifest_of(spec: DataSpec, files: dict[str, tuple[str, str, object]], seed: int = 0) -> Manifest:
    """Build from path → (label, split, content); content None means broken."""
    listed = [ListedImage(path, label, split) for path, (label, split, _) in files.items()]
    findings = {
        path: finding(path, "no image") if content is None else finding(content)
        for path, (_, _, content) in files.items()
    }
    return build_manifest(spec, ROOT, listed, findings, seed)


def distinct(label: str, count: int, split: str = "train") -> dict[str, tuple[str, str, object]]:
    return {f"{split}/{label}/{i}.png": (label, split, f"{split}{label}{i}") for i in range(count)}


def full(
    name: str, counts: dict[str, int], *, per_class: int = 0, seed: int = 0, **changes: object
) -> Manifest:
    """The catalogue's spec on as many images as the full data set has, without any file."""
    spec = DataSpec.model_validate({**resolve_dataset(name).document, **changes})
    files: dict[str, tuple[str, str, object]] = {}
    for label, count in counts.items():
        files |= distinct(label, count)
        files |= distinct(label, per_class, "test")
    return manifest_of(spec, files, seed)


# ---- arithmetic of the data sets by name


def test_covid_has_586_to_9192_of_the_full_data():
    manifest = full("covid", {"Normal": 10192, "COVID": 3616})
    assert manifest.counts("train") == {"Normal": 9192, "COVID": 586}
    assert manifest.counts("test") == {"Normal": 1000, "COVID": 1000}
    assert manifest.status_counts() == {"ok": 11778, "dropped": 2030}


def test_covid_counts_can_be_overridden():
    counts = {"Normal": 10192, "COVID": 3616}
    manifest = full("covid", counts, test_per_class=500, train_counts={"COVID": 100, "Normal": 2000})
    assert manifest.counts("train") == {"Normal": 2000, "COVID": 100}
    assert manifest.counts("test") == {"Normal": 500, "COVID": 500}


def test_the_ratio_follows_the_majority_that_is_kept():
    manifest = full(
        "covid", {"Normal": 10192, "COVID": 3616}, train_counts={"Normal": 2300}, imbalance="1:23"
    )
    assert manifest.counts("train") == {"Normal": 2300, "COVID": 100}


@pytest.mark.parametrize(("name", "kept"), [("gender_A", 87), ("gender_B", 38), ("gender", 834)])
def test_gender_ratios(name, kept):
    manifest = full(name, {"male": 873, "female": 834}, per_class=300)
    assert manifest.counts("train") == {"male": 873, "female": kept}
    assert manifest.counts("test") == {"male": 300, "female": 300}


def test_ratio_that_the_data_cannot_give_is_refused():
    with pytest.raises(DataError) as caught:
        full("gender", {"male": 100, "female": 20}, per_class=5, imbalance="1:2")
    assert str(caught.value) == (
        "gender: imbalance 1:2 of 100 majority rows needs 50 of female, and 20 are there for training. "
        "Use a rarer ratio, or -o imbalance=null to train on all of them."
    )


def test_the_rarest_ratio_keeps_one():
    assert (
        full("gender", {"male": 10, "female": 9}, per_class=2, imbalance="1:100").counts("train")["female"]
        == 1
    )


def test_held_out_share_without_counts():
    spec = spec_of(test_per_class=None, test_share=0.2)
    assert manifest_of(spec, distinct("a", 50) | distinct("b", 10)).counts("test") == {"a": 10, "b": 2}


@pytest.mark.parametrize(("minority", "held_out"), [(99, {"a": 0, "b": 0}), (100, {"a": 30, "b": 20})])
def test_a_test_set_is_drawn_from_a_hundred_of_the_minority_on(minority, held_out):
    manifest = manifest_of(spec_of(test_per_class=None), distinct("a", 150) | distinct("b", minority))
    assert manifest.counts("test") == held_out
    assert manifest.counts("train") == {"a": 150 - held_out["a"], "b": minority - held_out["b"]}


def test_the_hundred_are_counted_by_groups():
    files = distinct("a", 150) | {f"b/lot{n // 2}/{n}.png": ("b", "train", f"b{n}") for n in range(120)}
    spec = spec_of(test_per_class=None, group=r"(lot\d+|a/\d+)")
    assert manifest_of(spec, files).usable("test") == []
    assert manifest_of(spec_of(test_per_class=None), files).counts("test") == {"a": 30, "b": 24}


@pytest.mark.parametrize("minority", range(10))
def test_every_minority_image_trains_where_there_are_few(minority):
    manifest = manifest_of(spec_of(test_per_class=None), distinct("a", 30) | distinct("b", minority))
    assert manifest.counts("train") == {"a": 30, "b": minority}
    assert manifest.usable("test") == []
    assert manifest.regime == ("labelled" if minority else "normal_only")


def test_labels_that_nobody_knows_are_the_majority_everywhere():
    files = distinct("a", 30) | distinct("b", 5) | distinct("a", 3, "test") | distinct("b", 3, "test")
    manifest = manifest_of(spec_of(**WITH_TEST_FOLDER, unlabelled=True), files)
    assert manifest.regime == "unlabelled"
    assert manifest.counts("train") == {"a": 35, "b": 0}
    assert manifest.counts("test") == {"a": 6, "b": 0}
    # The same rows are another set where somebody vouches for them.
    vouched = Manifest(manifest.dataset, manifest.root, manifest.class_names, manifest.rows)
    assert vouched.regime == "normal_only"
    assert vouched.digest != manifest.digest


def test_none_of_the_minority_can_be_asked_for():
    files = distinct("a", 30) | distinct("b", 5)
    manifest = manifest_of(spec_of(test_per_class=1, train_counts={"b": 0}), files)
    assert manifest.regime == "normal_only"
    assert manifest.counts("test") == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (4, "toys: 4 usable training images of a; 5 are the least, one for each of 5 folds. Add 1 or more. "),
        (1, "toys: 1 usable training image of a; 5 are the least, one for each of 5 folds. Add 4 or more. "),
    ],
)
def test_fewer_than_five_of_the_majority(count, said):
    with pytest.raises(DataError) as caught:
        manifest_of(spec_of(test_per_class=None), distinct("a", count) | distinct("b", 3))
    assert str(caught.value) == (
        f"{said}20 and more are advised: no p-value of an image can be below 1 / (n + 1), so 5 normal images "
        "allow no less than 0.17."
    )


def test_of_several_classes_each_needs_images():
    spec = spec_of(classes=["a", "c", "b"], test_per_class=None)
    with pytest.raises(DataError, match=r"class b has no usable training image\. Add images of it\."):
        manifest_of(spec, distinct("a", 9) | distinct("c", 9))


def test_too_few_to_hold_out():
    with pytest.raises(DataError) as caught:
        manifest_of(spec_of(test_per_class=1000), distinct("a", 2000) | distinct("b", 124))
    assert str(caught.value) == (
        "toys: class b has 124 usable images, and test_per_class=1000 would leave none to train on. "
        "Use -o test_per_class=62 or less."
    )


# ---- reasons


def test_conflicting_labels_duplicates_and_broken_files_stay_out_with_their_reason():
    files = distinct("a", 9) | distinct("b", 5)
    files |= {
        "train/a/two.png": ("a", "train", "conflict"),
        "train/b/two.png": ("b", "train", "conflict"),
        "train/a/again.png": ("a", "train", "traina3"),
        "train/b/broken.png": ("b", "train", None),
    }
    rows = {row.path: row for row in manifest_of(spec_of(), files).rows}
    for path in ("train/a/two.png", "train/b/two.png"):
        assert (rows[path].status, rows[path].reason) == ("excluded", "the same file is labelled a and b")
    twins = [rows["train/a/3.png"], rows["train/a/again.png"]]
    assert sorted(row.status for row in twins) == ["excluded", "ok"]
    assert next(row.reason for row in twins if row.status == "excluded").startswith(
        "the same file as train/a/"
    )
    assert (rows["train/b/broken.png"].status, rows["train/b/broken.png"].reason) == ("broken", "no image")
    assert len(rows) == len(files)


def test_training_file_that_is_held_out_leaves_training():
    files = distinct("a", 6) | distinct("b", 4) | distinct("a", 2, "test") | distinct("b", 2, "test")
    files["test/b/copy.png"] = ("b", "test", "traina1")
    manifest = manifest_of(spec_of(**WITH_TEST_FOLDER), files)
    rows = {row.path: row for row in manifest.rows}
    assert rows["train/a/1.png"].reason == "the same file is held out as test/b/copy.png"
    assert manifest.counts("test") == {"a": 2, "b": 3}


def test_patients_never_part():
    files = {
        f"p{p}/{label}{i}.png": (label, "train", f"{p}{label}{i}")
        for p in range(8)
        for label in "ab"
        for i in "12"
    }
    manifest = manifest_of(spec_of(group=r"^(p\d+)/", test_per_class=4), files)
    train = {row.group for row in manifest.usable("train")}
    test = {row.group for row in manifest.usable("test")}
    assert train == {f"p{p}" for p in range(8)} - test
    assert len(test) == 2


def test_patient_in_both_splits_leaves_training():
    files = {
        **{f"train/{c}/p{p}.png": (c, "train", f"{c}{p}") for c in "ab" for p in range(6)},
        "test/a/p0.png": ("a", "test", "x"),
        "test/b/p9.png": ("b", "test", "y"),
    }
    manifest = manifest_of(spec_of(**WITH_TEST_FOLDER, group=r"(p\d+)"), files)
    reasons = {row.path: row.reason for row in manifest.rows if row.status == "excluded"}
    assert reasons == {"train/a/p0.png": "group p0 is held out", "train/b/p0.png": "group p0 is held out"}


@pytest.mark.parametrize("rule", [r"patient(\d+)", r"toy|(patient)?"])
def test_group_rule_that_finds_nothing(rule):
    with pytest.raises(DataError, match=r"toys: the group rule .* finds no group in 'train/a/0\.png'"):
        manifest_of(spec_of(group=rule), distinct("a", 4) | distinct("b", 4))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"train/a/1.png": ("a", "train", None), "train/a/2.png": ("a", "train", None)},
            "class a has 0 usable images",
        ),
        (
            {**distinct("a", 5), "train/b/1.png": ("b", "train", "x"), "train/b/2.png": ("b", "train", "x")},
            "class b has 1 usable images",
        ),
    ],
)
def test_class_of_which_nothing_is_left(files, said):
    with pytest.raises(DataError, match=said):
        manifest_of(spec_of(), files)


def test_held_out_class_of_broken_files_names_the_first():
    files = distinct("a", 5) | distinct("b", 5) | distinct("a", 2, "test")
    files["test/b/1.png"] = ("b", "test", None)
    with pytest.raises(DataError) as caught:
        manifest_of(spec_of(**WITH_TEST_FOLDER), files)
    assert str(caught.value) == (
        "toys: class b has no usable test image. 1 of it stay out; the first: test/b/1.png: no image. "
        "Add images of it."
    )


@pytest.mark.parametrize(
    ("group", "count", "said"),
    [
        (None, 1, "class b has one usable image, and the draw of the test set took it, so none is left"),
        (
            r"/(b|a/\d+)",
            3,
            r"class b has 3 usable images, all of one group \(b\), and the draw of the test set took them",
        ),
    ],
)
def test_class_that_the_draw_of_the_test_set_took_whole(group, count, said):
    spec = spec_of(test_per_class=None, test_share=0.9, group=group)
    files = distinct("a", 8) | distinct("b", count)
    with pytest.raises(DataError, match=said):
        manifest_of(spec, files)


# ---- invariants of random sets

labels = st.sampled_from("ab")
splits = st.sampled_from(["train", "train", "train", "test"])
contents = st.one_of(st.integers(0, 40), st.none())
entries = st.lists(st.tuples(labels, splits, contents, st.integers(0, 9)), min_size=8, max_size=60)


@st.composite
def sets(draw):
    """A random set with enough clean rows that it can be split, as path → (label, split, content)."""
    with_test, with_groups = draw(st.booleans()), draw(st.booleans())
    files: dict[str, tuple[str, str, object]] = {}
    for number, (label, split, content, group) in enumerate(draw(entries)):
        files[f"g{group}/{number}.png"] = (label, split if with_test else "train", content)
    for number in range(12):
        for label in "ab":
            files[f"g{label}{number}/clean.png"] = (label, "train", f"clean {label}{number}")
            if with_test and number < 2:
                files[f"gt{label}{number}/clean.png"] = (label, "test", f"held {label}{number}")
    spec = spec_of(
        **(WITH_TEST_FOLDER if with_test else {"test_per_class": 2}),
        group=r"^(g\w+)/" if with_groups else None,
        imbalance=draw(st.sampled_from([None, "1:10"])),
    )
    return spec, files


@given(sets(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_invariants(drawn, seed, random):
    spec, files = drawn
    try:
        manifest = manifest_of(spec, files, seed)
    except DataError:
        return
    train, test = manifest.usable("train"), manifest.usable("test")
    # Nothing is lost, and nothing is in two places.
    assert sorted(row.path for row in manifest.rows) == sorted(files)
    assert not {row.sha256 for row in train} & {row.sha256 for row in test}
    assert not {row.group for row in train} & {row.group for row in test}
    assert max(Counter(row.sha256 for row in train).values()) == 1
    # Contradictions are in no training split.
    labels_of: dict[str, set[str]] = {}
    for label, split, content in files.values():
        if split == "train" and content is not None:
            labels_of.setdefault(finding(content).sha256, set()).add(label)
    assert all(len(labels_of[row.sha256]) == 1 for row in train)
    for row in manifest.rows:
        label, split, content = files[row.path]
        assert row.label == label
        assert (row.status == "broken") == (content is None)
        assert (row.reason == "") == (row.status == "ok")
        if split == "test":
            assert (row.split, row.status in {"ok", "broken"}) == ("test", True)
        if row.status == "dropped":
            assert (row.split, row.label) == ("train", "b")
    if spec.imbalance:
        counts = manifest.counts("train")
        assert counts["b"] == max(1, round(counts["a"] / 10))
    # The order of the listing means nothing.
    shuffled = list(files.items())
    random.shuffle(shuffled)
    assert manifest_of(spec, dict(shuffled), seed).rows == manifest.rows


def test_same_call_same_manifest_other_seed_other_draw():
    files = distinct("a", 40) | distinct("b", 40)
    spec = spec_of(test_per_class=10, imbalance="1:10")
    first, again, other = (manifest_of(spec, files, seed) for seed in (0, 0, 1))
    assert first.digest == again.digest != other.digest
    backwards = manifest_of(spec, dict(reversed(files.items())), 0)
    assert backwards.rows == first.rows


def test_digest_does_not_depend_on_the_root_but_on_every_fact():
    manifest = manifest_of(spec_of(), distinct("a", 6) | distinct("b", 5))
    moved = Manifest(manifest.dataset, Path("/elsewhere"), manifest.class_names, manifest.rows)
    assert moved.digest == manifest.digest
    other_names = Manifest(manifest.dataset, ROOT, ("b", "a"), manifest.rows)
    fewer = Manifest(manifest.dataset, ROOT, manifest.class_names, manifest.rows[1:])
    assert len({manifest.digest, other_names.digest, fewer.digest}) == 3


def test_written_manifest_reads_back(tmp_path):
    spec = spec_of(classes=["a\nline", "b"], minority="b")
    files = {path: ("a\nline", split, content) for path, (_, split, content) in distinct("a", 6).items()}
    manifest = manifest_of(spec, files | distinct("b", 5) | {"x/é 1.png": ("b", "train", None)})
    manifest.write(tmp_path / "manifest.parquet")
    assert Manifest.read(tmp_path / "manifest.parquet") == manifest
    manifest = manifest_of(spec_of(test_per_class=None, unlabelled=True), distinct("a", 6))
    manifest.write(tmp_path / "manifest.parquet")
    assert Manifest.read(tmp_path / "manifest.parquet") == manifest


def test_files_are_only_read(tmp_path):
    folder = write_two_classes(tmp_path / "set", 14, 6)
    (folder / "odd" / "half.jpg").write_bytes(hostile.truncated("JPEG"))
    (folder / "fine" / "000 copy.png").write_bytes((folder / "fine" / "000.png").read_bytes())

    def state() -> dict[str, tuple[bytes, int]]:
        return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}

    before = state()
    spec = DataSpec.model_validate({**resolve_dataset(str(folder)).document, "test_per_class": 2})
    listed = spec.list_images(spec.find(folder))
    journal = InspectionJournal(tmp_path / "journal.jsonl")
    findings = journal.inspect(folder, (image.path for image in listed), DecodeSettings(32))
    manifest = build_manifest(spec, folder, listed, findings, 0)
    assert state() == before
    assert manifest.status_counts() == {"ok": 20, "broken": 1, "excluded": 1}
    broken = next(row for row in manifest.rows if row.status == "broken")
    assert broken.path == "odd/half.jpg"
    assert broken.reason
    assert np.all([row.width == 48 for row in manifest.rows if row.status != "broken"])


@pytest.mark.parametrize("rule", [{"test_per_class": 4}, {"test_per_class": None, "test_share": 0.3}])
def test_a_corrected_label_moves_no_image_between_training_and_test(rule):
    spec = spec_of(**rule, imbalance="1:5")
    files = distinct("a", 40) | distinct("b", 20)
    before = manifest_of(spec, files)
    wrong = [row.path for row in before.usable("train")][:3]
    listed = [
        ListedImage(path, "b", split, listed_label="a") if path in wrong else ListedImage(path, label, split)
        for path, (label, split, _) in files.items()
    ]
    findings = {path: finding(content) for path, (_, _, content) in files.items()}
    after = build_manifest(spec, ROOT, listed, findings, 0)
    assert [(row.path, row.split, row.status) for row in after.rows] == [
        (row.path, row.split, row.status) for row in before.rows
    ]
    corrected = {row.path: (row.label, row.listed_label) for row in after.rows if row.listed_label}
    assert corrected == dict.fromkeys(wrong, ("b", "a"))
    assert after.digest != before.digest
