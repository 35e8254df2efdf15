"""Corrected labels on file, and what becomes of listed images."""

from __future__ import annotations

import pytest

from contracts.errors import DataError
from imagedata.audit.corrections import Correction, Corrections, corrections_file
from imagedata.layouts.listed_image import ListedImage

A, B = "a" * 64, "b" * 64


def test_written_and_read_again(tmp_path):
    answers = [Correction(B, 'b,"\n.png', "odd", "fine"), Correction(A, "ä.png", "fine", "fine")]
    path = tmp_path / "new" / "set.csv"
    path.parent.mkdir()
    Corrections().with_answers(answers).write(path)
    read = Corrections.read(path)
    assert read.of_file == {each.sha256: each for each in answers}
    assert read.changing == 1
    assert path.read_text(encoding="utf-8").splitlines()[0] == "sha256,path,label,listed"


def test_the_newer_answer_holds():
    both = Corrections().with_answers([Correction(A, "a", "odd", "fine")])
    assert both.with_answers([Correction(A, "a", "fine", "fine")]).label_of(A, "fine") == "fine"
    assert both.label_of(B, "fine") == "fine"


def test_none_where_there_is_no_file(tmp_path):
    assert Corrections.read(tmp_path / "none.csv").of_file == {}
    assert corrections_file(tmp_path, "set", None) == tmp_path / "corrections" / "set.csv"
    assert corrections_file(tmp_path, "set", "mine.csv").name == "mine.csv"


def test_a_corrected_image_loses_what_was_said_of_its_former_class():
    image = ListedImage("a.png", "odd", "train", "patient", "crack", "mask.png")
    other = ListedImage("b.png", "odd", "train")
    corrections = Corrections({A: Correction(A, "a.png", "fine", "odd")})
    applied = corrections.applied([image, other], digest)
    assert applied == [ListedImage("a.png", "fine", "train", "patient", listed_label="odd"), other]
    # A second time changes nothing more.
    assert corrections.applied(applied, digest) == applied


def digest(image: ListedImage) -> str:
    return {"a.png": A, "b.png": B}[image.path]


@pytest.mark.parametrize(
    "row", ["abc,a.png,odd,fine", f"{A},a.png,,fine", f"{A},a.png,odd", f"{A},a,odd,fine\n{A},a,odd,fine"]
)
def test_what_cannot_be_read_is_named(tmp_path, row):
    path = tmp_path / "set.csv"
    path.write_text(f"sha256,path,label,listed\n{row}\n")
    with pytest.raises(DataError, match=r"is no corrected label .* Fix it, or delete the file"):
        Corrections.read(path)


def test_a_label_that_is_no_class_is_refused(tmp_path):
    corrections = Corrections({A: Correction(A, "a.png", "od", "fine")})
    with pytest.raises(DataError, match=r"the classes are fine, odd\. Did you mean 'odd'"):
        corrections.require_classes(tmp_path / "set.csv", ("fine", "odd"))
