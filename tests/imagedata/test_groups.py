"""Groups by names and by folders."""

import pytest

from imagedata.groups import group_of_path
from imagedata.spec import DataSpec
from tests.imagedata.trees import manifest_of, noise


@pytest.mark.parametrize(
    ("rule", "path", "group"),
    [
        (r"lot(\d+)", "a/lot7_3.png", "7"),
        (r"lot(\d+)", "a/3.png", ""),
        (1, "p7/sick/1.png", "p7"),
        (2, "train/p7/1.png", "p7"),
        (-1, "train/p7/1.png", "p7"),
        (-2, "train/p7/1.png", "train"),
        (3, "train/p7/1.png", ""),
        (-3, "train/p7/1.png", ""),
        (1, "1.png", ""),
    ],
)
def test_rule(rule, path, group):
    assert group_of_path(rule, path) == group


def test_a_patient_in_the_folders_of_two_classes_is_one_group(tmp_path):
    for patient in range(12):
        for label in ("well", "sick"):
            noise(tmp_path / label / f"p{patient}" / "1.png", 2 * patient + (label == "sick"))
    spec = DataSpec.model_validate(
        {"name": "s", "layout": {"kind": "class_folders"}, "classes": ["well", "sick"], "minority": "sick"}
        | {"group": -1, "test_share": 0.2}
    )
    manifest = manifest_of(spec, tmp_path)
    sides = [{row.group for row in manifest.usable(split)} for split in ("train", "test")]
    assert sides[0] | sides[1] == {f"p{patient}" for patient in range(12)}
    assert sides[1]
    assert not sides[0] & sides[1]
