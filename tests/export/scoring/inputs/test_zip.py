"""Zip archives as input: read like tar archives, with the same refusals, and nothing unpacked."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import struct
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow.dataset as pads
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import cli
from contracts.errors import ImageError
from export.scoring import score_images
from export.scoring.inputs.archives import index_archive
from export.scoring.inputs.listing import find_images
from imagedata.containers import archive_stream, zip_archive
from imagedata.containers.reader import ContainerReader
from tests import fixtures_onnx as onnx_files
from tests.export.scoring.containers import noise_files, write_zip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_files.write_two_class_model(tmp_path / "model.onnx")


def problems(archive: Path) -> dict[str, str]:
    return {name: image.problem for name, image in index_archive(str(archive)) if image.problem}


def special(name: str, mode: int, content: bytes = b"") -> tuple[zipfile.ZipInfo, bytes]:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, mode << 16
    return member, content


def rows_of(output: Path) -> pd.DataFrame:
    return pads.dataset(output).to_table().to_pandas().set_index("path", verify_integrity=True).sort_index()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_where_they_lie(tmp_path: Path, method: int) -> None:
    files = noise_files(5)
    others = {"0000.json": b"{}", "a/": b"", "a/README": b"text", "__MACOSX/._0000.png": b"fork"}
    archive = write_zip(
        tmp_path / "A.ZIP", {f"a/{name}": data for name, data in files.items()} | others, method
    )
    found = find_images([archive])
    assert found.paths == [f"{archive}::a/{name}" for name in files]
    assert found.left_out == {}
    reader = ContainerReader()
    backwards = {path: reader.read(found.packed[path]) for path in reversed(found.paths)}
    assert list(backwards.values()) == list(files.values())[::-1]
    assert list(tmp_path.iterdir()) == [archive]


def test_an_archive_gives_the_same_scores_as_its_files_and_the_same_bytes_again(
    tmp_path: Path, model: Path
) -> None:
    files = noise_files(40)
    for name, data in files.items():
        (tmp_path / "loose" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "loose" / name).write_bytes(data)
    archive = write_zip(tmp_path / "part.zip", files)
    score_images(model, [tmp_path / "loose"], tmp_path / "one")
    score_images(model, [archive], tmp_path / "two", shard_size=16)
    loose, packed = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
    assert packed.index.tolist() == [f"{archive}::{name}" for name in files]
    assert packed.reset_index(drop=True).equals(loose.reset_index(drop=True))

    parts = {part.name: part.read_bytes() for part in (tmp_path / "two").iterdir()}
    lost = next((tmp_path / "two").glob("part-*"))
    lost.unlink()
    again = score_images(model, [archive], tmp_path / "two", shard_size=16)
    assert 0 < again.already_done < 40
    assert {part.name: part.read_bytes() for part in (tmp_path / "two").iterdir()} == parts


def test_what_must_not_be_read_is_a_row_with_its_reason(tmp_path: Path) -> None:
    png = noise_files(1)["0000.png"]
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as writing:
        writing.writestr("/etc/abs.png", png)
        writing.writestr("../up.png", png)
        writing.writestr("C:\\win.png", png)
        writing.writestr(*special("link.png", stat.S_IFLNK | 0o777, b"/etc/passwd"))
        writing.writestr(*special("pipe.png", stat.S_IFIFO | 0o644))
        writing.writestr(*special("file.png", stat.S_IFREG | 0o644, png))
        writing.writestr("lzma.png", png, zipfile.ZIP_LZMA)
        writing.writestr("bzip2.png", png, zipfile.ZIP_BZIP2)
    found = problems(archive)
    said = {
        "/etc/abs.png": "absolute name",
        "../up.png": "'..'",
        "C:\\win.png": "absolute name",
        "link.png": "is a link",
        "pipe.png": "no regular file",
        "lzma.png": "method lzma",
        "bzip2.png": "method bzip2",
    }
    assert found.keys() == said.keys()
    assert all(words in found[name] for name, words in said.items())


def test_an_encrypted_member_is_a_row_with_its_reason(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", noise_files(2))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(data)
    assert problems(archive) == {
        "0000.png": "is encrypted. Unpack the archive with its password, and give the files."
    }


def test_a_name_that_occurs_twice_is_its_last_member(tmp_path: Path) -> None:
    first, second = noise_files(2).values()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as writing:
        writing.writestr("a.png", first)
        with pytest.warns(UserWarning, match="Duplicate name"):
            writing.writestr("a.png", second)
    found = find_images([tmp_path / "a.zip"])
    assert [ContainerReader().read(image) for image in found.packed.values()] == [second]


@pytest.mark.parametrize("name", ["käse.png", "日本.png"])
def test_names_in_utf8_are_read_as_such_whether_said_or_not(tmp_path: Path, name: str) -> None:
    archive = write_zip(tmp_path / "a.zip", {name: b"x"})
    assert [found for found, _ in index_archive(str(archive))] == [name]
    data = bytearray(archive.read_bytes())
    for mark, at in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
        data[data.index(mark) + at] &= ~8  # as macOS writes it: without the bit that says UTF-8
    archive.write_bytes(data)
    assert [found for found, _ in index_archive(str(archive))] == [name]


def test_a_name_in_no_known_encoding_is_still_a_row(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"caf_.png": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"caf_", b"caf\xe9"))
    ((name, image),) = index_archive(str(archive))
    assert name.startswith("caf")
    assert name.endswith(".png")
    assert ContainerReader().read(image) == b"x"


def test_an_archive_that_is_cut_off_or_none_is_one_failed_row(tmp_path: Path, model: Path) -> None:
    whole = write_zip(tmp_path / "whole.zip", noise_files(3)).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    (tmp_path / "none.zip").write_bytes(b"<html>404</html>")
    names = ["cut.zip", "none.zip", "whole.zip"]
    summary = score_images(model, [tmp_path / name for name in names], tmp_path / "out")
    assert (summary.scored, summary.failed) == (3, 2)
    errors = rows_of(tmp_path / "out")["error"]
    for name in names[:2]:
        assert "archive is damaged, cut off or no zip file" in errors[str(tmp_path / name)]


def test_damage_in_a_member_is_its_own_row(tmp_path: Path) -> None:
    files = noise_files(3)
    archive = write_zip(tmp_path / "a.zip", files, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[data.index(files["0001.png"]) + 40] ^= 1
    archive.write_bytes(data)
    first, second, third = (image for _, image in index_archive(str(archive)))
    reader = ContainerReader()
    assert reader.read(first) == files["0000.png"]
    with pytest.raises(ImageError, match=r"its archive is damaged in the member at byte .*CRC-32"):
        reader.read(second)
    assert reader.read(third) == files["0002.png"]


def test_a_bomb_is_not_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_stream, "RATIO_SLACK", 1 << 20)
    archive = write_zip(
        tmp_path / "a.zip", {**noise_files(1), "zeros.png": bytes(8 << 20), **noise_files(1, 5)}
    )
    found = dict(index_archive(str(archive)))
    assert list(found) == ["0000.png", ""]
    assert "grows to more than 100 times its size" in found[""].problem


def test_names_that_share_one_content_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", noise_files(2), zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    second = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, second + 42, 0)  # its header is now the first member's
    archive.write_bytes(data)
    assert "overlaps another member" in problems(archive)["0000.png"]


def test_a_list_of_too_many_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "MAX_DIRECTORY_BYTES", 2000)
    found = dict(index_archive(str(write_zip(tmp_path / "a.zip", {f"{n}.png": b"x" for n in range(100)}))))
    assert list(found) == [""]
    assert "lists its members in" in found[""].problem


def test_an_archive_that_changed_since_the_plan_is_not_read(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", noise_files(2))
    found = find_images([archive])
    write_zip(archive, noise_files(2, 7))
    os.utime(archive, ns=(1, 1))
    with pytest.raises(ImageError, match="changed since the run was planned"):
        ContainerReader().read(next(iter(found.packed.values())))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_archives_give_rows_or_reasons(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(write_zip(tmp_path / "a.zip", noise_files(3)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    archive = tmp_path / "mutated.zip"
    archive.write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    reader = ContainerReader()
    for _, image in index_archive(str(archive)):
        with contextlib.suppress(ImageError):
            assert len(reader.read(image)) == image.size
    reader.close()


# ---- what is left out


def run_score(*arguments: object) -> tuple[int, dict, str]:
    result = CliRunner().invoke(cli.app, ["score", *map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout), result.stderr


def test_images_of_other_endings_are_counted_and_the_exit_code_is_four(tmp_path: Path, model: Path) -> None:
    png = noise_files(1)["0000.png"]
    folder = tmp_path / "images"
    for name in ("a.png", "b.PNG.bak", "sub/IMG_0001", "sub/c.jxl", "notes.txt", "Thumbs.db", ".git/d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png if name != "notes.txt" else b"text")
    code, document, said = run_score(model, folder, "--output", tmp_path / "out")
    assert (document["images"], document["failed"]) == (1, 0)
    assert document["left_out"] == {".bak": 1, ".jxl": 1, "no ending": 1}
    assert code == 4
    assert "Not scored: 3 images end in .bak (1) or .jxl (1) or no ending (1)." in " ".join(said.split())
    # Said again where there is nothing to do; a pattern counts the same way, and a named file is scored.
    assert run_score(model, folder, "--output", tmp_path / "out")[0] == 4
    assert find_images([folder / "*"]).left_out == document["left_out"]
    named = find_images([folder, folder / "b.PNG.bak"])
    assert named.left_out == {".jxl": 1, "no ending": 1}
    assert str(folder / "b.PNG.bak") in named.paths


def test_only_images_and_text_leave_the_exit_code_alone(tmp_path: Path, model: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(noise_files(1)["0000.png"])
    (tmp_path / "images" / "notes.txt").write_text("text")
    code, document, _ = run_score(model, tmp_path / "images", "--output", tmp_path / "out")
    assert (code, document["left_out"]) == (0, {})


def test_what_archives_hold_beside_images_is_counted(tmp_path: Path) -> None:
    png = noise_files(1)["0000.png"]
    inner = write_zip(tmp_path / "inner.zip", noise_files(2)).read_bytes()
    members = {"a.png": png, "b.bak": png, "train.zip": inner, "a.txt": b"text", "__MACOSX/c.bak": png}
    found = find_images([write_zip(tmp_path / "a.zip", members)])
    assert len(found.paths) == 1
    assert found.left_out == {".bak": 1, ".zip": 1}
