"""Archives, tables and patterns as input: every image once, nothing unpacked, nothing lost in silence."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import DataError, ImageError, UsageError
from export.scoring import score_images
from export.scoring.inputs.archives import index_archive
from export.scoring.inputs.listing import FoundImages, find_images
from export.scoring.plan import ScoreSettings, make_shards
from imagedata.containers import archive_stream
from imagedata.containers.reader import ContainerReader
from tests import fixtures_onnx as onnx_files
from tests.export.scoring.containers import noise_files, tar_bytes, write_tar

SETTINGS = ScoreSettings("0" * 64, {"size": 16, "window": None})
COMPRESS = {
    ".tar": lambda data: data,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
    ".tar.zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_files.write_two_class_model(tmp_path / "model.onnx")


def rows_of(output: Path) -> pd.DataFrame:
    rows = pads.dataset(output).to_table().to_pandas()
    return rows.set_index("path", verify_integrity=True).sort_index()


def contents(found: FoundImages) -> dict[str, bytes]:
    reader = ContainerReader()
    return {path: reader.read(image) for path, image in found.packed.items()}


def problems(archive: Path) -> dict[str, str]:
    return {name: image.problem for name, image in index_archive(str(archive)) if image.problem}


# ---- archives


@pytest.mark.parametrize("ending", sorted(COMPRESS))
def test_members_are_read_where_they_lie(tmp_path: Path, ending: str) -> None:
    files = noise_files(5)
    others = {"0000.json": b"{}", "0001.cls": b"1", "sub/README": b"text"}
    archive = tmp_path / f"shard{ending}"
    archive.write_bytes(COMPRESS[ending](tar_bytes({**others, **files})))
    found = find_images([archive])
    assert found.paths == [f"{archive}::{name}" for name in files]
    assert contents(found) == {f"{archive}::{name}": data for name, data in files.items()}
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_members_are_found_in_any_order(tmp_path: Path, ending: str) -> None:
    archive = tmp_path / f"shard{ending}"
    archive.write_bytes(COMPRESS[ending](tar_bytes(noise_files(9))))
    images = find_images([archive]).packed
    reader = ContainerReader()
    backwards = {path: reader.read(images[path]) for path in reversed(images)}
    assert backwards == {f"{archive}::{name}": data for name, data in noise_files(9).items()}


def test_rows_of_an_archive_stand_where_its_path_does_in_its_own_order(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "b.tar", dict(reversed(noise_files(3).items())))
    for name in ("a.png", "c.png"):
        (tmp_path / name).touch()
    found = find_images([tmp_path / "c.png", archive, tmp_path / "a.png", archive])
    names = [os.path.relpath(path, tmp_path) for path in found.paths]
    assert names == ["a.png", "b.tar::0002.png", "b.tar::0001.png", "b.tar::0000.png", "c.png"]


def test_long_and_odd_names(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    files = dict(zip(["x" * 300 + ".png", "ünï/çode.png", odd], noise_files(3).values(), strict=True))
    archive = write_tar(tmp_path / "a.tar", files)
    found = find_images([archive])
    assert found.paths == [f"{archive}::{name}" for name in files]
    assert len(make_shards(found.paths, SETTINGS, 2, found.packed)) == 2


def test_a_name_that_occurs_twice_is_its_last_member(tmp_path: Path) -> None:
    first, last, other = noise_files(3).values()
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar_bytes({"a.png": first, "b.png": other})[:-10240] + tar_bytes({"a.png": last}))
    # Two members of 1,536 bytes each fill less than the 10,240 that tarfile pads to.
    whole = tar_bytes({"a.png": first, "b.png": other})
    members = whole[: len(whole.rstrip(b"\0")) // 512 * 512 + 512]
    archive.write_bytes(members + tar_bytes({"a.png": last}))
    found = find_images([archive])
    assert contents(found) == {f"{archive}::b.png": other, f"{archive}::a.png": last}


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_what_must_not_be_read_is_a_row_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"outside")
    image = next(iter(noise_files(1).values()))
    archive = write_tar(
        tmp_path / "a.tar",
        {
            "good.png": image,
            "../up.png": image,
            "in/../../up.png": image,
            "/etc/abs.png": image,
            "C:\\abs.png": image,
            "soft": member("soft.png", tarfile.SYMTYPE, "../secret.png"),
            "hard": member("hard.png", tarfile.LNKTYPE, "good.png"),
            "pipe": member("pipe.png", tarfile.FIFOTYPE),
            "folder": member("folder.png", tarfile.DIRTYPE),
            "text": member("text", tarfile.SYMTYPE, "good.png"),
        },
    )
    assert next(name for name, _ in index_archive(str(archive))) == "good.png"
    found = problems(archive)
    assert {name: reason.split(".")[0][:40] for name, reason in found.items()} == {
        "../up.png": "has a name with '",
        "in/../../up.png": "has a name with '",
        "/etc/abs.png": "has an absolute name within its archive",
        "C:\\abs.png": "has an absolute name within its archive",
        "soft.png": "is a link to '",
        "hard.png": "is a link to 'good",
        "pipe.png": "is no regular file of its archive",
    }
    refused = [image for _, image in index_archive(str(archive)) if image.problem]
    for one in refused:
        with pytest.raises(ImageError):
            ContainerReader().read(one)


def test_an_archive_that_is_cut_off_keeps_what_is_whole(tmp_path: Path, model: Path) -> None:
    files = noise_files(6)
    whole = tar_bytes(files)
    archive = tmp_path / "a.tar"
    fifth = list(index_archive(str(write_tar(archive, files))))[4][1].offset
    archive.write_bytes(whole[: fifth + 100])  # in the middle of the fifth image
    summary = score_images(model, [archive], tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert (summary.images, summary.scored, summary.failed) == (6, 4, 2)
    assert "ends within it, after 100 of" in rows.loc[f"{archive}::0004.png"].error
    assert "5 images before that place are rows of their own" in rows.loc[str(archive)].error


@pytest.mark.parametrize("damage", ["no end", "header", "joined", "not tar", "empty"])
def test_damage_that_tarfile_passes_over_is_told(tmp_path: Path, damage: str) -> None:
    whole = tar_bytes(noise_files(3))
    second = list(index_archive(str(write_tar(tmp_path / "a.tar", noise_files(3)))))[1][1].offset
    data, said, images = {
        "no end": (whole[: len(whole.rstrip(b"\0")) // 512 * 512 + 512], "no end mark", 3),
        "header": (whole[: second - 512] + b"\xff" * 512 + whole[second:], "damaged at byte", 1),
        "joined": (whole + whole, "holds more behind its end mark", 3),
        "not tar": (b"this is no archive" * 100, "is no whole tar file", 0),
        "empty": (b"", "is no whole tar file", 0),
    }[damage]
    (tmp_path / "a.tar").write_bytes(data)
    found = dict(index_archive(str(tmp_path / "a.tar")))
    assert len(found) == images + 1
    assert said in found[""].problem


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"])
def test_a_compressed_archive_that_is_cut_off(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(0)
    files = {f"{index}.png": rng.bytes(200_000) for index in range(16)}  # does not compress
    data = COMPRESS[ending](tar_bytes(files))
    (tmp_path / f"a{ending}").write_bytes(data[: len(data) // 2])
    found = dict(index_archive(str(tmp_path / f"a{ending}")))
    assert "archive is damaged or cut off" in found.pop("").problem
    reader, read, lost = ContainerReader(), 0, []
    for name, image in found.items():
        try:
            assert reader.read(image) == files[name]
            read += 1
        except ImageError as error:
            lost.append(str(error))
    assert 0 < read < 16
    assert all("its archive" in reason for reason in lost)


def test_a_bomb_is_not_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_stream, "RATIO_SLACK", 1 << 20)
    files = {"a.png": next(iter(noise_files(1).values())), "bomb.bmp": bytes(30 << 20), "behind.png": b"x"}
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar_bytes(files)))
    found = dict(index_archive(str(tmp_path / "a.tar.gz")))
    assert "grows to more than 100 times its size" in found[""].problem
    assert "behind.png" not in found
    reader = ContainerReader()
    assert reader.read(found["a.png"]) == files["a.png"]
    with pytest.raises(ImageError, match="grows to more than 100 times"):
        reader.read(found["bomb.bmp"])


def test_a_header_of_unreasonable_size_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.pax_headers = {"comment": "x" * (2 << 20)}
    write_tar(tmp_path / "a.tar", {"a": info})
    assert "has a header of 2,0" in problems(tmp_path / "a.tar")[""]


def test_a_header_of_negative_size_ends(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.png")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # base 256: -1024
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(10240))
    assert problems(tmp_path / "a.tar")[""]


def test_an_archive_that_changed_since_the_plan_is_not_read(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", noise_files(3))
    image = next(iter(find_images([archive]).packed.values()))
    write_tar(archive, noise_files(3, start=5) | {"more.png": b"x" * 20_000})
    with pytest.raises(ImageError, match="has changed since the run was planned"):
        ContainerReader().read(image)
    archive.unlink()
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        ContainerReader().read(image)


def test_another_archive_under_the_same_name_is_another_plan(tmp_path: Path) -> None:
    plans = []
    for files in (noise_files(3), noise_files(3) | {"0001.png": b"x" * 5000}):
        found = find_images([write_tar(tmp_path / "a.tar", files)])
        plans.append(make_shards(found.paths, SETTINGS, 8, found.packed)[0].id)
    found = find_images([write_tar(tmp_path / "a.tar", noise_files(3))])
    assert make_shards(found.paths, SETTINGS, 8, found.packed)[0].id == plans[0] != plans[1]
    assert pickle.loads(pickle.dumps(make_shards(found.paths, SETTINGS, 8, found.packed)[0])).packed


def test_an_archive_gives_the_same_scores_as_its_files(tmp_path: Path, model: Path) -> None:
    files = noise_files(7)
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "a.tgz").write_bytes(gzip.compress(tar_bytes(files)))
    score_images(model, [tmp_path / "in"], tmp_path / "out")
    score_images(model, [tmp_path / "a.tgz"], tmp_path / "packed", shard_size=3)
    again = score_images(model, [tmp_path / "a.tgz"], tmp_path / "packed", shard_size=3)
    expected, packed = rows_of(tmp_path / "out"), rows_of(tmp_path / "packed")
    assert again.already_done == 7
    assert packed.index.tolist() == [f"{tmp_path}/a.tgz::{name}" for name in files]
    pd.testing.assert_frame_equal(packed.reset_index(drop=True), expected.reset_index(drop=True))


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_are_read_as_tarfile_reads_them(tmp_path: Path, layout: int) -> None:
    names = [
        "a.png",
        "p" * 90 + "/" + "n" * 60 + ".png",
        "ü" * 40 + ".png",
        "d/" * 20 + "e.png",
        "x " + "y" * 97,
    ]
    with tarfile.open(tmp_path / "a.tar", "w", format=layout) as archive:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name if name.endswith(".png") else f"{name}.png"[-100:])
            info.size = number * 700
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    with tarfile.open(tmp_path / "a.tar") as archive:
        expected = [(each.name, each.offset_data, each.size) for each in archive]
    found = [(name, image.offset, image.size) for name, image in index_archive(str(tmp_path / "a.tar"))]
    assert found == expected


MUTATED = tar_bytes(noise_files(3) | {"x" * 200 + ".png": b"long name"})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_archives_give_rows_or_reasons(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(MUTATED)
    places = st.one_of(st.integers(0, 511), st.integers(0, len(content) - 1))  # headers most of all
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        content[place] = value
    header = content[:512]
    header[148:156] = b" " * 8
    content[148:156] = f"{sum(header):06o}\0 ".encode()  # a right checksum, so that the rest counts
    archive = tmp_path / "a.tar"
    archive.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    reader = ContainerReader()
    for _, image in index_archive(str(archive)):
        with contextlib.suppress(ImageError):
            reader.read(image)
    reader.close()


# ---- tables


def write_table(path: Path, /, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=4)
    return path


def test_paths_of_a_table_are_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    for name in ("a.png", "b.dat"):
        (tmp_path / name).touch()
    table = write_table(
        tmp_path / "sets" / "t.parquet", path=["../b.dat", "../a.png", "../gone.png"], n=[1, 2, 3]
    )
    found = find_images([table])
    assert [Path(path).name for path in found.paths] == ["a.png", "b.dat", "gone.png"]
    by_name = write_table(tmp_path / "u.parquet", file=pa.array(["a.png"]).dictionary_encode())
    assert find_images([by_name], path_column="file").paths == [str(tmp_path / "a.png")]


def test_a_table_that_names_itself_ends(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet", path=["t.parquet"])
    assert find_images([table]).paths == [str(table)]


@pytest.mark.parametrize("struct", [True, False])
def test_images_within_a_table(tmp_path: Path, model: Path, struct: bool) -> None:
    images = [*noise_files(41).values()]
    column = [{"bytes": data, "path": "x"} for data in images] if struct else images
    column[3] = None
    table = write_table(tmp_path / "t.parquet", image=column, label=list(range(41)))
    found = find_images([table])
    assert found.paths == [f"{table}::{row}" for row in range(41)]
    reader = ContainerReader()
    for row in (0, 1, 40, 17, 5, 39, 4):
        assert reader.read(found.packed[f"{table}::{row}"]) == images[row] or row == 3
    summary = score_images(model, [table], tmp_path / "out", shard_size=7)
    assert (summary.scored, summary.failed) == (40, 1)
    assert rows_of(tmp_path / "out").loc[f"{table}::3"].error == "its row holds no bytes."


@pytest.mark.parametrize(
    ("columns", "asked", "said"),
    [
        ({"file": ["a.png"]}, None, r"has no column 'path', only file\..*--path-column"),
        ({"paths": ["a.png"]}, "path", r"no column 'path', only paths\. Did you mean 'paths'\?"),
        ({"path": [1]}, None, "column 'path' is of type int64, neither paths"),
        ({"path": ["a.png", "b.png"]}, None, "none of 2 paths exists"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, columns: dict, asked: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_images([write_table(tmp_path / "t.parquet", **columns)], path_column=asked)


def test_a_row_without_path_and_a_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match="row 1 has no path"):
        find_images([write_table(tmp_path / "t.parquet", path=["a.png", None])])
    (tmp_path / "t.parquet").write_bytes(b"no table")
    with pytest.raises(UsageError, match=r"t\.parquet cannot be read"):
        find_images([tmp_path / "t.parquet"])


# ---- patterns


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("*.jpg", ["a.jpg"]),
        ("parts/*.jpg", ["parts/b.jpg"]),
        ("parts/**/*.jpg", ["parts/b.jpg", "parts/x/c.jpg", "parts/x/y/d.jpg"]),
        ("**/c.*", ["parts/x/c.jpg"]),
        ("**", ["a.jpg", "parts/[1].png", "parts/b.jpg", "parts/x/c.jpg", "parts/x/y/d.jpg"]),
        ("part?/x/[a-c].jpg", ["parts/x/c.jpg"]),
        ("parts/*", ["parts/[1].png", "parts/b.jpg", "parts/x/c.jpg", "parts/x/y/d.jpg"]),
        ("parts/*.dat", ["parts/raw.dat"]),
        ("./parts/*/../b.*", ["parts/b.jpg"]),
        ("parts/[1].png", ["parts/[1].png"]),
        ("**/.h*/*.jpg", [".hidden/h.jpg"]),
    ],
)
def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, fitting: list[str]) -> None:
    files = ("parts/b.jpg", "parts/x/c.jpg", "parts/x/y/d.jpg", "parts/raw.dat", "parts/[1].png")
    touch(tmp_path, "a.jpg", "notes.txt", ".hidden/h.jpg", *files)
    (tmp_path / "parts" / "x" / "loop").symlink_to(tmp_path / "parts" / "x")
    monkeypatch.chdir(tmp_path)
    found = [os.path.normpath(path) for path in find_images([Path(pattern)]).paths]
    assert found == fitting
    absolute = [os.path.relpath(path, tmp_path) for path in find_images([tmp_path / pattern]).paths]
    assert absolute == fitting


def test_patterns_of_archives_and_in_lists(tmp_path: Path) -> None:
    folder = tmp_path / "odd [1]"
    write_tar(folder / "shard-1.tar", noise_files(2))
    write_tar(folder / "shard-2.tar", noise_files(2))
    touch(folder, "a.png")
    (folder / "list.txt").write_text("shard-*.tar\n*.png\ngone[1].png\n")
    names = [os.path.relpath(path, folder) for path in find_images([], folder / "list.txt").paths]
    assert names == [
        "a.png",
        "gone[1].png",
        *(f"shard-{shard}.tar::000{index}.png" for shard in (1, 2) for index in (0, 1)),
    ]


def test_a_pattern_that_fits_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\*\.png' fits no file here.*quote the pattern"):
        find_images([tmp_path / "*.png"])
