"""Near copies in the manifest: out of training like equal files, or together, and never out of test."""

from pathlib import Path

import pytest

from contracts.errors import UsageError
from imagedata.inspection import Inspection
from imagedata.layouts.listed_image import ListedImage
from imagedata.manifest import Manifest, build_manifest
from imagedata.near_duplicates import components, pictures_of, read_near_duplicates, write_near_duplicates
from imagedata.spec import DataSpec

SHA = {name: f"{number:064x}" for number, name in enumerate("abcdefghijklmno", start=1)}


def manifest(rows: dict[str, tuple[str, str]], near: list[str], **more) -> Manifest:
    """Rows: letter → label and split; its file is ``<letter>.png``. Near: pairs of letters."""
    held_out = {"test": "t/{class}"} if any(split == "test" for _, split in rows.values()) else {}
    layout = {"kind": "class_folders", **held_out}
    spec = DataSpec(name="t", layout=layout, classes=["fine", "odd"], minority="odd", **more)
    listed = [ListedImage(f"{name}.png", label, split) for name, (label, split) in rows.items()]
    findings = {f"{name}.png": Inspection(SHA[name[-1]], 9, 9, "L", "") for name in rows}
    pairs = [(SHA[left], SHA[right]) for left, right in near]
    return build_manifest(spec, Path(), listed, findings, 0, pictures_of(pairs))


def reasons(found: Manifest) -> dict[str, str]:
    return {row.path: row.reason for row in found.rows if row.status == "excluded"}


ORDINARY = {
    "a": ("fine", "train"), "b": ("fine", "train"), "c": ("odd", "train"), "d": ("odd", "train"),
    "e": ("fine", "test"), "f": ("odd", "test"),
    **dict.fromkeys("klmno", ("fine", "train")),
}  # fmt: skip


def test_without_near_copies_nothing_changes():
    assert reasons(manifest(ORDINARY, [])) == {}
    assert manifest(ORDINARY, []).digest == manifest(ORDINARY, ["ij"]).digest


def test_training_row_leaves_where_its_near_copy_is_held_out():
    found = manifest(ORDINARY, ["ae"])
    assert reasons(found) == {"a.png": "nearly the same picture is held out as e.png"}
    assert found.counts("test") == {"fine": 1, "odd": 1}


def test_near_copies_of_two_labels_both_leave_training():
    found = manifest(ORDINARY, ["ac"])
    assert set(reasons(found).values()) == {"nearly the same file is labelled fine and odd"}
    assert sorted(reasons(found)) == ["a.png", "c.png"]


def test_near_copies_of_one_label_stay_and_form_a_group():
    found = manifest(ORDINARY, ["ab", "bj"])
    assert reasons(found) == {}
    group = {row.path: row.group for row in found.rows}
    assert group["a.png"] == group["b.png"] != group["c.png"]


def test_with_a_group_rule_the_copy_in_another_group_leaves():
    rows = {"p1/a": ("fine", "train"), "p1/b": ("fine", "train"), "p2/c": ("fine", "train"),
            "p3/d": ("odd", "train"), "p4/e": ("fine", "test"), "p5/f": ("odd", "test"),
            **dict.fromkeys(("p6/k", "p7/l", "p8/m"), ("fine", "train"))}  # fmt: skip
    found = manifest(rows, ["ab", "bc"], group=r"^(p\d)")
    assert reasons(found) == {"p2/c.png": "nearly the same picture as p1/a.png"}


def test_equal_files_are_still_named_as_equal():
    rows = {**ORDINARY, "x/a": ("fine", "train"), "y/e": ("fine", "train")}
    found = manifest(rows, ["ab"])
    assert reasons(found) == {
        "x/a.png": "the same file as a.png",
        "y/e.png": "the same file is held out as e.png",
    }


def test_a_drawn_held_out_split_takes_near_copies_whole():
    rows = {name: ("fine" if place % 2 else "odd", "train") for place, name in enumerate("abcdefghijklmno")}
    found = manifest(rows, ["ac", "ce", "bd"], test_per_class=2)
    split = {row.path: row.split for row in found.rows}
    assert len({split[f"{name}.png"] for name in "ace"}) == 1
    assert split["b.png"] == split["d.png"]


def test_file_of_near_copies_is_written_and_read(tmp_path):
    path = tmp_path / "near.json"
    write_near_duplicates(path, "t", [(SHA["a"], SHA["b"]), (SHA["b"], SHA["c"])])
    assert read_near_duplicates(str(path)) == {SHA[name]: SHA["a"] for name in "abc"}
    assert read_near_duplicates(None) == {}
    assert components([("b", "c"), ("a", "b"), ("x", "y")]) == [["a", "b", "c"], ["x", "y"]]


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": 2, "pairs": []}',
                                  '{"format": 1, "pairs": [["a", "b"]]}'])  # fmt: skip
def test_other_files_are_refused_in_a_sentence(tmp_path, text):
    path = tmp_path / "near.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"no list of near copies\. Write it with the command check\."):
        read_near_duplicates(str(path))
    with pytest.raises(UsageError, match="No such file or directory"):
        read_near_duplicates(str(tmp_path / "none.json"))
