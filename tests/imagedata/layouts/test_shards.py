"""Shards: Hugging Face's parquet and webdataset's tars, read, written out, and refused if hostile."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.errors import DataError
from imagedata.containers import archive_stream
from imagedata.layouts.said import Said
from imagedata.layouts.shard_samples import parquet_samples, tar_samples
from imagedata.layouts.shards import WrittenShards
from imagedata.resolve import resolve_dataset
from imagedata.spec import DataSpec
from tests.export.scoring.containers import write_zip
from tests.imagedata.trees import noise, spec_of
from workflow.run.prepared import manifest_of
from workflow.settings.config import RunOptions, resolve_config


def pictures(folder: Path, count: int, start: int = 0) -> list[bytes]:
    return [noise(folder / "made" / f"{n}.png", n).read_bytes() for n in range(start, start + count)]


def write_parquet(path: Path, images: list[bytes], labels: list[int], names: tuple[str, ...] = ()) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": data, "path": "../../evil.png"} for data in images]
    table = pa.table({"image": cells, "label": labels})
    if names:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return path


def write_tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def samples(images: list[bytes], labels: list[int]) -> list[tuple[str, bytes]]:
    members = []
    for index, (data, label) in enumerate(zip(images, labels, strict=True)):
        members += [(f"s{index:03d}.png", data), (f"s{index:03d}.cls", str(label).encode())]
    return members


def listed_and_written(folder: Path, target: Path) -> dict[str, tuple[str, bytes]]:
    spec = spec_of(folder)
    root = spec.find(folder)
    shards = spec.layout.materialiser(spec, root, target)
    assert isinstance(shards, WrittenShards)
    assert shards.write_images() == len(spec.list_images(root))
    assert shards.write_images() == 0  # whole already
    return {
        image.path: (image.label, (shards.root / image.path).read_bytes()) for image in spec.list_images(root)
    }


def test_a_folder_of_hugging_face(tmp_path):
    images = pictures(tmp_path, 9)
    folder = tmp_path / "set"
    write_parquet(folder / "data/train-00000-of-00002.parquet", images[:3], [0, 1, 0], ("cat", "dog"))
    write_parquet(folder / "data/train-00001-of-00002.parquet", images[3:6], [0, 0, 0], ("cat", "dog"))
    write_parquet(folder / "data/test-00000-of-00001.parquet", images[6:], [1, 0, 0], ("cat", "dog"))
    written = listed_and_written(folder, tmp_path / "runs")
    assert written["train/dog/0000001.png"] == ("dog", images[1])
    assert written["test/dog/0000000.png"] == ("dog", images[6])
    assert len(written) == 9
    assert spec_of(folder).minority == "dog"


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_a_folder_of_webdataset(tmp_path, ending):
    images = pictures(tmp_path, 6)
    folder = tmp_path / "set"
    folder.mkdir()
    write_tar(
        folder / f"shard-0{ending}", samples(images, [0, 0, 0, 0, 1, 0]), "w:gz" if "gz" in ending else "w"
    )
    written = listed_and_written(folder, tmp_path / "runs")
    assert written["train/1/0000004.png"] == ("1", images[4])
    assert sorted(data for _, data in written.values()) == sorted(images)


def test_rows_of_shards_are_files(tmp_path):
    labels = [int(n % 4 == 0) for n in range(40)]
    write_parquet(tmp_path / "set" / "all.parquet", pictures(tmp_path, 40), labels)
    config = resolve_config(RunOptions(str(tmp_path / "set"), runs=tmp_path / "runs"))
    manifest = manifest_of(config)
    assert manifest.class_names == ("0", "1")
    assert manifest.status_counts() == {"ok": 40}
    assert all((manifest.root / row.path).is_file() for row in manifest.rows)
    assert manifest.root.is_relative_to(tmp_path / "runs" / "unpacked")
    assert manifest_of(config) == manifest


def link(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)


def bomb(path: Path) -> None:
    write_tar(path, [("a.png", bytes(3 << 20))])
    path.write_bytes(gzip.compress(path.read_bytes()))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda path: write_tar(path, [("../a.png", b"x")]),
            r"'\.\./a\.png' in it has a name with '\.\.' that leads out of its archive",
        ),
        (lambda path: write_tar(path, [("b/../../a.png", b"x")]), "leads out of its archive"),
        (lambda path: write_tar(path, [("/a.png", b"x")]), "'/a.png' in it has an absolute name"),
        (lambda path: write_tar(path, [("C:\\\\a.png", b"x")]), "absolute name"),
        (lambda path: write_tar(path, [("a\x1b[31m/../a.png", b"x")]), r"a\\x1b\[31m"),
        (link, "is a link to '/etc/passwd'"),
        (lambda path: write_tar(path, [("a.png", b"x")]), "lacks its label"),
        (lambda path: write_tar(path, [("a.cls", b"1")]), "lacks an image"),
        (lambda path: write_tar(path, [("a.png", b"x"), ("a.cls", b"\xff")]), "that is no text"),
        (lambda path: path.write_bytes(b"nothing of the kind"), "is no whole tar file"),
        (
            lambda path: path.write_bytes(
                write_tar(path, samples([b"x" * 2000], [1])).read_bytes()[: 512 + 2048]
            ),
            "cut off",
        ),
        (lambda path: path.write_bytes(b"\x1f\x8b" + b"x" * 99), "is damaged or cut off"),
        (bomb, "grows to more than 100 times its size"),
    ],
)
def test_hostile_tar(tmp_path, monkeypatch, make, said):
    monkeypatch.setattr(archive_stream, "RATIO_SLACK", 1 << 20)
    make(tmp_path / "a.tar")
    with pytest.raises(DataError, match=said):
        list(tar_samples(tmp_path / "a.tar", None, "cls", None))


def test_joined_tars_are_refused_for_the_second_would_be_lost(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples(pictures(tmp_path, 2), [0, 1]))
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DataError, match="holds more behind its end mark"):
        list(tar_samples(path, None, "cls", None))


@pytest.mark.parametrize("cut", [4, 100, 400])
def test_truncated_tar_is_never_accepted(tmp_path, cut):
    images = pictures(tmp_path, 3)
    path = write_tar(tmp_path / "a.tar", samples(images, [0, 1, 0]))
    data = path.read_bytes()
    for keep in range(512, len(data) - 1024 - 512 * 15, 512):
        path.write_bytes(data[: keep + cut - 4])
        with pytest.raises(DataError):
            list(tar_samples(path, None, "cls", None))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"image": [b"x"], "lable": [1]}, r"no column 'label', only image, lable\. Did you mean 'lable'"),
        ({"image": ["a.png"], "label": [1]}, "holds no bytes"),
        ({"image": [b"x"], "label": pa.array([None], pa.int64())}, "has empty cells"),
        ({"image": [bytes(9 << 20)], "label": [1]}, "far more than its size allows"),
    ],
)
def test_parquet_with_a_fault(tmp_path, monkeypatch, columns, said):
    monkeypatch.setattr(archive_stream, "RATIO_SLACK", 1 << 20)
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(DataError, match=said):
        list(parquet_samples(tmp_path / "a.parquet", "image", "label", None))


def test_parquet_that_is_none(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1xxxxPAR1")
    with pytest.raises(DataError, match="not readable as parquet"):
        resolve_dataset(str(tmp_path))


def test_a_zip_archive_of_samples_is_a_shard_and_one_of_folders_is_none(tmp_path: Path) -> None:
    samples = {
        f"{n:04d}.{end}": data
        for n in range(6)
        for end, data in (("png", b"image"), ("cls", b"%d" % (n % 2)))
    }
    write_zip(tmp_path / "set" / "train-0.zip", {**samples, "__MACOSX/._0000.png": b"fork"})
    spec = DataSpec.model_validate(resolve_dataset(str(tmp_path / "set"), Said("1")).document)
    assert len(spec.list_images(tmp_path / "set")) == 6

    for name in ("good/1.png", "bad/1.png"):
        (tmp_path / "folders" / name).parent.mkdir(parents=True)
        (tmp_path / "folders" / name).write_bytes(b"")
    write_zip(tmp_path / "folders" / "download.zip", {"good/1.png": b"image", "bad/1.png": b"image"})
    document = resolve_dataset(str(tmp_path / "folders"), Said("bad")).document
    assert document["layout"]["kind"] == "class_folders"


def test_a_zip_shard_with_a_hostile_member_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "train.zip", {"../0.png": b"image", "0.cls": b"1"})
    with pytest.raises(DataError, match=r"'\.\./0\.png' in it has a name with '\.\.'"):
        list(tar_samples(path, None, "cls", None))
