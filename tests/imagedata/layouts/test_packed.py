"""Packed data sets: found, listed, looked at without files, unpacked as far as needed."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image

from contracts.errors import DataError
from contracts.files import sha256_of_file
from imagedata.decoding.decode import DecodeSettings
from imagedata.inspection import inspect_file
from imagedata.layouts import materialiser
from imagedata.manifest import build_manifest
from imagedata.resolve import resolve_dataset
from imagedata.spec import DataSpec
from tests.packs import IDX_FILES, cifar_batch, idx_bytes, write_idx_pack

DOCUMENT = {
    "name": "squares",
    "source": "tests",
    "layout": {
        "kind": "packed",
        "format": "idx",
        "roots": ["squares/raw", "."],
        "train": list(IDX_FILES["train"]),
        "test": list(IDX_FILES["test"]),
        "label_of_class": {"nought": 0, "one": 1, "two": 2},
    },
    "classes": ["nought", "one", "two"],
    "minority": "two",
    "train_counts": {"nought": 6, "one": 4, "two": 3},
}
SPEC = DataSpec.model_validate(DOCUMENT)


def manifest_of(spec, source, below, seed=0):
    listed = spec.list_images(source)
    pack = spec.layout.materialiser(spec, source, below)
    findings = pack.findings(image.path for image in listed)
    return pack, build_manifest(spec, pack.root, listed, findings, seed)


def needed(manifest):
    return {row.path: row.sha256 for row in manifest.rows if row.status == "ok"}


@pytest.mark.parametrize("compressed", [False, True])
def test_listed_looked_at_and_unpacked(tmp_path, compressed):
    source = write_idx_pack(tmp_path / "squares/raw", (12, 8, 5), (4, 4, 4), compressed=compressed)
    assert SPEC.find(tmp_path) == source
    listed = SPEC.list_images(source)
    assert len(listed) == 25 + 12
    assert {image.path.rsplit("/", 1)[0] for image in listed if image.label == "two"} == {
        "train/two",
        "test/two",
    }
    pack, manifest = manifest_of(SPEC, source, tmp_path / "out")
    assert manifest.counts("train") == {"nought": 6, "one": 4, "two": 3}
    assert manifest.counts("test") == {"nought": 4, "one": 4, "two": 4}
    assert pack.unpack(needed(manifest)) == 13 + 12
    # Only what the run takes was written, and each file is what looking at it in thought had found.
    files = {
        path.relative_to(manifest.root).as_posix() for path in manifest.root.rglob("*") if path.is_file()
    }
    assert files == set(needed(manifest))
    for row in manifest.rows:
        if row.status == "ok":
            found = inspect_file(manifest.root / row.path, DecodeSettings(32))
            assert (found.sha256, found.width, found.height, found.mode, found.problem) == (
                row.sha256,
                20,
                20,
                "L",
                "",
            )
            label = manifest.class_names.index(row.label)
            pixels = np.asarray(Image.open(manifest.root / row.path))
            blocks = [
                pixels[r * 6 : r * 6 + 6, c * 6 : c * 6 + 6].mean() for r, c in ((0, 0), (0, 1), (0, 2))
            ]
            assert int(np.argmax(blocks)) == label


def test_unpacking_goes_on_and_mends_what_is_torn(tmp_path):
    source = write_idx_pack(tmp_path, (12, 8, 5), (4, 4, 4))
    pack, manifest = manifest_of(SPEC, source, tmp_path / "out")
    wanted = needed(manifest)
    some = dict(list(wanted.items())[:9])
    assert pack.unpack(some) == 9
    torn, whole = list(some)[:2]
    (manifest.root / torn).write_bytes(b"\x89PNG torn by a power cut")
    before = (manifest.root / whole).stat().st_mtime_ns
    counted = []
    assert pack.unpack(wanted, lambda: counted.append(1)) == len(wanted) - 8
    assert len(counted) == len(wanted)
    assert (manifest.root / whole).stat().st_mtime_ns == before
    for path, digest in wanted.items():
        assert hashlib.sha256((manifest.root / path).read_bytes()).hexdigest() == digest
    assert not list(manifest.root.rglob(".*.tmp"))
    assert pack.unpack(wanted) == 0


def test_another_seed_shares_the_folder_and_another_pack_does_not(tmp_path):
    source = write_idx_pack(tmp_path / "a", (12, 8, 5), (4, 4, 4))
    _, one = manifest_of(SPEC, source, tmp_path / "out", seed=0)
    _, two = manifest_of(SPEC, source, tmp_path / "out", seed=1)
    assert one.root == two.root
    assert needed(one) != needed(two)
    moved = shutil.copytree(source, tmp_path / "elsewhere")
    assert SPEC.layout.materialiser(SPEC, moved, tmp_path / "out").root == one.root
    other = write_idx_pack(tmp_path / "b", (12, 8, 5), (4, 4, 4), seed=1)
    assert SPEC.layout.materialiser(SPEC, other, tmp_path / "out").root != one.root


def test_a_picture_that_is_held_out_too_leaves_training(tmp_path):
    source = write_idx_pack(tmp_path, (12, 8, 5), (4, 4, 4))
    images = np.frombuffer((source / IDX_FILES["train"][0]).read_bytes()[16:], np.uint8).reshape(-1, 20, 20)
    held_out = np.frombuffer((source / IDX_FILES["test"][0]).read_bytes()[16:], np.uint8).reshape(-1, 20, 20)
    labels = np.frombuffer((source / IDX_FILES["train"][1]).read_bytes()[8:], np.uint8)
    copied = images.copy()
    copied[np.flatnonzero(labels == 0)[0]] = held_out[0]
    (source / IDX_FILES["train"][0]).write_bytes(idx_bytes(copied))
    _, manifest = manifest_of(SPEC, source, tmp_path / "out")
    (excluded,) = [row for row in manifest.rows if row.status == "excluded"]
    assert excluded.split == "train"
    assert excluded.reason.startswith("the same file is held out as test/")
    assert needed(manifest).keys().isdisjoint({excluded.path})


def test_held_out_rows_can_be_drawn_from_the_training_images(tmp_path):
    source = write_idx_pack(tmp_path, (12, 8, 6), (4, 4, 4))
    layout = {**DOCUMENT["layout"], "test": None}
    spec = DataSpec.model_validate({**DOCUMENT, "layout": layout, "test_per_class": 2})
    _, manifest = manifest_of(spec, source, tmp_path / "out")
    assert manifest.counts("test") == {"nought": 2, "one": 2, "two": 2}
    assert manifest.counts("train") == {"nought": 6, "one": 4, "two": 3}


def test_a_missing_pack_shows_the_tree_and_where_to_get_it(tmp_path):
    with pytest.raises(DataError) as caught:
        SPEC.find(tmp_path)
    said = str(caught.value)
    assert f"squares: not found in {tmp_path}/squares/raw, {tmp_path}. Get it from tests" in said
    assert "squares/raw/train-images-idx3-ubyte (or .gz)" in said
    with pytest.raises(DataError, match="no data directory given"):
        SPEC.find(None)
    write_idx_pack(tmp_path, (3, 3, 3), (2, 2, 2))
    (tmp_path / IDX_FILES["test"][1]).unlink()
    with pytest.raises(DataError, match="lacks t10k-labels-idx1-ubyte"):
        SPEC.find(tmp_path)


def test_an_absolute_root_needs_no_data_directory(tmp_path):
    source = write_idx_pack(tmp_path / "system", (3, 3, 3), (2, 2, 2))
    layout = {**DOCUMENT["layout"], "roots": ["squares", str(source)]}
    spec = DataSpec.model_validate({**DOCUMENT, "layout": layout})
    assert spec.find(None) == source
    assert spec.find(tmp_path) == source


def test_a_class_without_images_is_named(tmp_path):
    source = write_idx_pack(tmp_path, (3, 3), (2, 2))
    with pytest.raises(DataError, match=r"class two has no images in .*train-labels-idx1-ubyte"):
        SPEC.list_images(source)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label_of_class": {"nought": 0, "one": 1}}, "gives no label for \\['two'\\]"),
        ({"label_of_class": {"nought": 0, "one": 1, "two": 1}}, "two classes one label"),
        ({"label_of_class": {"nought": 0, "one": 1, "two": 2, "../up": 3}}, "cannot name a folder"),
        ({"train": ["one-file"]}, "train names 1 files; idx has two"),
        ({"format": "tar"}, "'idx', 'cifar' or 'svhn'"),
    ],
)
def test_layouts_that_cannot_be(changes, said):
    with pytest.raises(ValueError, match=said):
        DataSpec.model_validate({**DOCUMENT, "layout": {**DOCUMENT["layout"], **changes}})


def test_colour_packs_of_several_files(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name in names:
        images = rng.integers(0, 256, size=(10, 32, 32, 3), dtype=np.uint8)
        (tmp_path / name).write_bytes(cifar_batch(images, list(range(10))))
    resolved = resolve_dataset("cifar10_lt")
    document = {**resolved.document, "layout": {**resolved.document["layout"], "roots": ["."]}}
    spec = DataSpec.model_validate(document)
    pack, manifest = manifest_of(spec, spec.find(tmp_path), tmp_path / "out")
    assert set(manifest.counts("train").values()) == {5}
    pack.unpack(needed(manifest))
    with Image.open(manifest.root / "test/truck/000009.png") as image:
        np.testing.assert_array_equal(np.asarray(image), images[9])


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("mnist_lt", [4000, 2000, 1000, 750, 500, 350, 200, 100, 60, 40]),
        ("fashion_mnist_lt", [4000, 2000, 1000, 750, 500, 350, 200, 100, 60, 40]),
        ("cifar10_lt", [4500, 2000, 1000, 800, 600, 500, 400, 250, 150, 80]),
        ("svhn_lt", [4500, 2000, 1000, 800, 600, 500, 400, 250, 150, 80]),
    ],
)
def test_long_tailed_sets_have_the_protocols_counts_in_the_order_of_the_labels(name, counts):
    spec = DataSpec.model_validate(resolve_dataset(name).document)
    by_label = sorted(spec.layout.label_of_class, key=lambda c: spec.layout.label_of_class[c])
    assert [spec.train_counts[c] for c in by_label] == counts
    assert spec.class_names == tuple(by_label)
    assert spec.minority == by_label[-1]


def test_a_pack_is_digested_once_per_process_until_it_changes(tmp_path, monkeypatch):
    source = write_idx_pack(tmp_path, (3, 3, 3), (2, 2, 2))
    digested = []

    def counting(path):
        digested.append(path.name)
        return sha256_of_file(path)

    monkeypatch.setattr(materialiser, "sha256_of_file", counting)
    first = SPEC.layout.materialiser(SPEC, source, tmp_path / "out").root
    assert SPEC.layout.materialiser(SPEC, source, tmp_path / "out").root == first
    assert sorted(digested) == sorted([*IDX_FILES["train"], *IDX_FILES["test"]])
    write_idx_pack(tmp_path, (3, 3, 4), (2, 2, 2))
    assert SPEC.layout.materialiser(SPEC, source, tmp_path / "out").root != first
