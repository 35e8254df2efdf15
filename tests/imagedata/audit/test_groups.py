"""Guesses of patients and lots: what real names say, and what says nothing."""

import re

import pytest

from imagedata.audit.groups import _name_rules, guess_groups
from imagedata.groups import group_of_path
from imagedata.layouts.listed_image import ListedImage
from imagedata.spec import DataSpec
from workflow.settings.documents import parse_overrides


def listed(*paths: str) -> list[ListedImage]:
    return [ListedImage(path, path.split("/")[-2], "train") for path in paths]


def idc(patients: int = 4, patches: int = 6) -> list[ListedImage]:
    return listed(
        *(
            f"{10253 + p}/{k % 2}/{10253 + p}_idx5_x{1 + 50 * k}_y1001_class{k % 2}.png"
            for p in range(patients)
            for k in range(patches)
        )
    )


def test_histology_patches_are_grouped_by_patient():
    guesses = guess_groups(idc())
    assert len(guesses) == 1  # folder and name say the same, which is said once
    assert (guesses[0].n_groups, guesses[0].n_files, guesses[0].largest) == (4, 24, 6)
    assert guesses[0].crossing == {"splits": 0, "labels": 4}
    assert group_of_path(guesses[0].rule, "10253/0/10253_idx5_x1001_y1001_class0.png") == "10253"


@pytest.mark.parametrize(
    ("names", "group"),
    [
        ([f"10{p}_idx5_x{50 * k}_y1_class0.png" for p in range(3) for k in range(3)], "100"),
        ([f"exp{e}_num_{33365 + k}.png" for e in (1, 2, 3) for k in range(4)], "exp1"),
        ([f"patient-{p}_view{k}a.png" for p in range(4) for k in range(3)], "patient-0"),
        ([f"0000{p}_00{k}.png" for p in range(1, 5) for k in range(3)], "00001"),
        ([f"lotA_{p}_{k}.png" for p in range(4) for k in range(3)], "lotA_0"),
    ],
)
def test_names_that_tell_groups(names, group):
    images = listed(*(f"a/{name}" for name in names), *(f"b/{name}.x.png" for name in ("p", "q")))
    guess = guess_groups(images)[0]
    assert group_of_path(guess.rule, f"a/{names[0]}") == group
    # Names that do not fit stand for themselves, with their folder: equal names in two folders are two files.
    assert group_of_path(guess.rule, "b/p.x.png") == "b/p.x.png"
    assert group in guess.examples


def test_a_rule_is_what_a_spec_takes_and_matches_every_path():
    images = [*idc(), *listed("10253/0/odd name.png", "10253/1/x\ny.png")]
    for guess in guess_groups(images):
        spec = DataSpec(
            name="t", layout={"kind": "class_folders"}, classes=["0", "1"], minority="1", group=guess.rule
        )
        assert spec.group == guess.rule
        assert parse_overrides([f"group={guess.rule}"]) == [(["group"], guess.rule)]
        assert all(re.search(guess.rule, image.path).group(1) for image in images)


@pytest.mark.parametrize(
    "paths",
    [
        [f"{c}/face_{k}.jpg" for c in "ab" for k in range(20)],
        [f"{c}/IMG_{1000 + k}.jpg" for c in "ab" for k in range(20)],
        [f"{c}/{k:04d}.png" for c in "ab" for k in range(20)],
        [f"x/{c}/images/{c}-{k}.png" for c in "ab" for k in range(20)],
    ],
)
def test_plain_numbering_and_class_folders_tell_nothing(paths):
    images = [ListedImage(path, "a" if "a" in path.split("/") else "b", "train") for path in paths]
    assert guess_groups(images) == []


def test_every_kind_of_rule_can_be_given_on_the_command_line():
    for _, rule in _name_rules():
        assert parse_overrides([f"group={rule}"]) == [(["group"], rule)]


def test_hostile_names_take_no_time():
    images = listed(
        *(f"a/{'_1' * 100}{k}x.png" for k in range(50)), *(f"b/{'1-' * 100}{k}.png" for k in range(50))
    )
    guess_groups(images)
