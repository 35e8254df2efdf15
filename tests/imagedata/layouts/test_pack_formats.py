"""IDX, CIFAR and SVHN files: read right, and refused in one sentence where they are not right."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct

import numpy as np
import pytest
from scipy.io import savemat

from contracts.errors import DataError
from imagedata.layouts.pack_formats import read_cifar, read_idx, read_images, read_labels, read_svhn
from tests.packs import cifar_batch, idx_bytes

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, size=(5, 9, 8), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, size=(4, 32, 32, 3), dtype=np.uint8)
LABELS = [3, 0, 9, 1]


def written(folder, data, name="pack"):
    path = folder / name
    path.write_bytes(data)
    return path


# ---- IDX


@pytest.mark.parametrize("name", ["pack", "pack.gz"])
def test_idx_is_read_plain_and_compressed(tmp_path, name):
    data = idx_bytes(GREY)
    path = written(tmp_path, gzip.compress(data) if name.endswith("gz") else data, name)
    np.testing.assert_array_equal(read_idx(path, 3), GREY)


def huge(*sizes):
    return bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "truncated: 0 bytes, not even the header's 16"),
        (idx_bytes(GREY)[:10], "truncated: 10 bytes"),
        (idx_bytes(GREY)[:-1], "truncated: 359 bytes after the header where it promises 360"),
        (idx_bytes(GREY) + b"\0", "longer than its header says: 361 bytes"),
        (idx_bytes(GREY.reshape(-1)), "its first bytes are 00 00 08 01, not 00 00 08 03"),
        (b"\x89PNG\r\n\x1a\n" * 4, "its first bytes are 89 50 4e 47"),
        (idx_bytes(GREY).replace(b"\x08", b"\x0d", 1), "its first bytes are 00 00 0d 03"),
        (
            huge(2**32 - 1, 2**32 - 1, 2**32 - 1),
            "its header claims 79,228,162,458,924,105,385,300,197,375 bytes",
        ),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_idx_that_is_none(tmp_path, data, said, compressed):
    path = written(tmp_path, gzip.compress(data), "x.gz") if compressed else written(tmp_path, data)
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", ["tail", "middle", "all"])
def test_broken_gzip_is_refused(tmp_path, cut):
    whole = gzip.compress(idx_bytes(GREY))
    broken = {
        "tail": whole[: len(whole) // 2],
        "middle": whole[:40] + bytes(40) + whole[80:],
        "all": b"no gzip at all, but long enough to be something",
    }[cut]
    with pytest.raises(DataError, match=r"broken gzip|truncated|first bytes"):
        read_idx(written(tmp_path, broken, "x.gz"), 3)


def test_a_gzip_bomb_is_not_unpacked_beyond_its_header(tmp_path):
    """64 MiB of zeros behind a header that promises 360 bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as handle:
        handle.write(idx_bytes(GREY))
        for _ in range(64):
            handle.write(bytes(1 << 20))
    with pytest.raises(DataError, match="longer than its header says: 361 bytes"):
        read_idx(written(tmp_path, packed.getvalue(), "x.gz"), 3)


def test_images_and_labels_must_fit(tmp_path):
    images = written(tmp_path, idx_bytes(GREY), "images")
    labels = written(tmp_path, idx_bytes(np.zeros(4, np.uint8)), "labels")
    with pytest.raises(DataError, match="4 labels, but 5 images in images"):
        read_images("idx", [images, labels])
    tiny = written(tmp_path, idx_bytes(GREY[:, :4, :4]), "tiny")
    labels = written(tmp_path, idx_bytes(np.zeros(5, np.uint8)), "labels")
    with pytest.raises(DataError, match="images of 4x4 pixels are too small"):
        read_images("idx", [tiny, labels])


# ---- CIFAR-10


def test_cifar_as_python_2_wrote_it(tmp_path):
    path = written(tmp_path, cifar_batch(COLOUR, LABELS))
    images, labels = read_cifar(path)
    np.testing.assert_array_equal(images, COLOUR)
    assert labels.tolist() == LABELS
    images, labels = read_images("cifar", [path, path])
    assert images.shape == (8, 32, 32, 3)
    assert read_labels("cifar", [path, path]).tolist() == LABELS * 2


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar_as_python_3_writes_it(tmp_path, protocol):
    batch = {"labels": LABELS, "data": COLOUR.transpose(0, 3, 1, 2).reshape(4, 3072)}
    images, labels = read_cifar(written(tmp_path, pickle.dumps(batch, protocol)))
    np.testing.assert_array_equal(images, COLOUR)
    assert labels.tolist() == LABELS


class Hostile:
    """Unpickled without care, it would make a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_pickle_that_would_run_something_is_refused_and_nothing_runs(tmp_path):
    target = tmp_path / "made_by_the_pickle"
    batch = {"labels": LABELS, "data": Hostile(target)}
    with pytest.raises(DataError, match=r"it names (posix|nt)\.mkdir, and only plain arrays are allowed"):
        read_cifar(written(tmp_path, pickle.dumps(batch, 2)))
    assert not target.exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "numpy.core.multiarray frombuffer", "numpy memmap", "numpy.f2py compile"]
)
def test_no_other_name_is_known(tmp_path, name):
    module, attribute = name.split()
    with pytest.raises(DataError, match="only plain arrays are allowed"):
        read_cifar(written(tmp_path, f"\x80\x02c{module}\n{attribute}\n.".encode("latin1")))


def test_what_numpys_constructors_would_do_is_not_done(tmp_path):
    """``numpy.ndarray((10**12,))`` would ask for memory; the stand-in only remembers that it was called."""
    pickled = (
        b"\x80\x02}(U\x06labels]U\x04datacnumpy\nndarray\n\x8a\x06"
        + (10**12).to_bytes(6, "little")
        + b"\x85\x85Ru."
    )
    with pytest.raises(DataError, match="'data' is no array"):
        read_cifar(written(tmp_path, pickled))


def damaged(old, new):
    return cifar_batch(COLOUR, LABELS).replace(old, new, 1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a CIFAR batch"),
        (b"not a pickle", "not a CIFAR batch"),
        (cifar_batch(COLOUR, LABELS)[:-50], "not a CIFAR batch"),
        (pickle.dumps([1, 2]), "it holds a list, not a dictionary"),
        (pickle.dumps({"labels": LABELS}), "'data' is no array"),
        (pickle.dumps({"labels": LABELS, "data": b"x" * 4 * 3072}), "'data' is no array"),
        (pickle.dumps({"labels": [1, "two"], "data": None}), "'labels' is no list of small numbers"),
        (pickle.dumps({"labels": [300], "data": None}), "'labels' is no list of small numbers"),
        (cifar_batch(COLOUR, LABELS[:3]), "'data' does not hold 3 rows of 3072 bytes"),
        (damaged(b"U\x02u1", b"U\x02f4"), "no array of unsigned bytes"),
        (damaged(b"U\x02u1", b"U\x02O8"), "no array of unsigned bytes"),
        (damaged(b"\x89T", b"\x88T"), "no array of unsigned bytes in row order"),
    ],
)
def test_cifar_that_is_none(tmp_path, data, said):
    path = written(tmp_path, data)
    with pytest.raises(DataError) as caught:
        read_cifar(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- SVHN


def test_svhn_is_read_and_its_ten_is_a_zero(tmp_path):
    path = tmp_path / "train_32x32.mat"
    y = np.array([[10], [1], [9], [2]], np.uint8)
    savemat(path, {"X": COLOUR.transpose(1, 2, 3, 0), "y": y}, do_compression=True)
    images, labels = read_svhn(path)
    np.testing.assert_array_equal(images, COLOUR)
    assert labels.tolist() == [0, 1, 9, 2]
    assert read_labels("svhn", [path]).tolist() == [0, 1, 9, 2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"y": np.ones((4, 1), np.uint8)}, "it holds no array 'X'"),
        ({"X": COLOUR.transpose(1, 2, 3, 0)}, "it holds no array 'y'"),
        ({"X": COLOUR, "y": np.ones((4, 1), np.uint8)}, "not uint8 [32, 32, 3, 4]"),
        ({"X": COLOUR.transpose(1, 2, 3, 0) / 2.0, "y": np.ones((4, 1), np.uint8)}, "are float64"),
        ({"X": COLOUR.transpose(1, 2, 3, 0), "y": np.full((4, 1), 11)}, "no digits from 0 to 10"),
        ({"X": COLOUR.transpose(1, 2, 3, 0), "y": np.full((4, 1), 0.5)}, "no digits from 0 to 10"),
    ],
)
def test_svhn_that_is_none(tmp_path, content, said):
    path = tmp_path / "x.mat"
    savemat(path, content)
    with pytest.raises(DataError) as caught:
        read_svhn(path)
    assert said in str(caught.value)


@pytest.mark.parametrize("keep", [0, 100, 200, 5000])
def test_truncated_matlab_file(tmp_path, keep):
    path = tmp_path / "x.mat"
    savemat(path, {"X": COLOUR.transpose(1, 2, 3, 0), "y": np.ones((4, 1), np.uint8)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"not a readable MATLAB file|holds no array"):
        read_svhn(path)
