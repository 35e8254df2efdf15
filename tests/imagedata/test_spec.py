"""Specs: those of the catalogue, and those that must be refused."""

import pytest
from pydantic import ValidationError

from contracts.errors import UsageError
from imagedata.resolve import CATALOGUE_DIR, catalogue_names, resolve_dataset
from imagedata.spec import DataSpec, parse_ratio
from workflow.settings.documents import validated

FOLDERS = {"name": "toys", "layout": {"kind": "class_folders"}, "classes": ["good", "bad"], "minority": "bad"}
TABLE = {
    "name": "list",
    "layout": {
        "kind": "label_table",
        "table": "labels.csv",
        "columns": ["path", "label"],
        "label_column": "label",
        "values_of_class": {"good": ["0"], "bad": ["1"]},
    },
    "classes": ["good", "bad"],
    "minority": "bad",
}


def with_layout(document: dict, **changes: object) -> dict:
    return {**document, "layout": {**document["layout"], **changes}}


@pytest.mark.parametrize("name", catalogue_names())
def test_every_set_of_the_catalogue_is_valid_and_named_like_its_file(name):
    resolved = resolve_dataset(name)
    spec = validated(DataSpec, resolved.document, resolved.where)
    assert spec.name == name
    assert spec.title
    assert spec.source
    assert spec.licence
    assert spec.class_names[-1] == spec.minority


def test_the_catalogue_holds_what_was_promised():
    long_tailed = {"mnist_lt", "fashion_mnist_lt", "cifar10_lt", "svhn_lt"}
    named = {"gender", "gender_A", "gender_B", "covid", "covid_masked", "elpv", "therapanacea"}
    patches = {"idc", "idc_20", "idc_random"}
    names = set(catalogue_names())
    assert long_tailed | named | patches | {"mvtec_bottle", "mvtec_metal_nut", "mvtec_zipper"} <= names
    assert len([name for name in names if name.startswith("mvtec_")]) == 15
    assert {path.suffix for path in CATALOGUE_DIR.iterdir()} == {".yaml"}


@pytest.mark.parametrize(
    ("name", "ratio"), [("gender_A", 10.0), ("gender_B", 23.0), ("covid", 9192 / 586), ("elpv", 20.0)]
)
def test_imbalance_of_the_catalogue(name, ratio):
    assert parse_ratio(resolve_dataset(name).document["imbalance"]) == pytest.approx(ratio)


def test_the_minority_comes_last_and_the_others_keep_their_order():
    spec = DataSpec.model_validate({**FOLDERS, "classes": ["c", "bad", "a", "b"]})
    assert spec.class_names == ("c", "a", "b", "bad")


@pytest.mark.parametrize("text", ["10:1", "1", "1:2:3", "a:b", "0:3", "-1:3", "nan:1", "1:inf", "", ":"])
def test_ratio_that_is_none(text):
    with pytest.raises(UsageError, match=r"^imbalance: got '.*'; .*1:23"):
        parse_ratio(text)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({**FOLDERS, "minority": "bed"}, "minority 'bed' is none of the classes .* Did you mean 'bad'"),
        ({**FOLDERS, "classes": ["bad", "bad"]}, "not distinct"),
        ({**FOLDERS, "classes": ["bad"]}, "at least 2"),
        ({**FOLDERS, "classes": ["bad", ""]}, "at least 1 char"),
        ({**FOLDERS, "train_counts": {"bda": 3}}, r"train_counts names \['bda'\]"),
        ({**FOLDERS, "train_counts": {"bad": -1}}, "greater than or equal to 0"),
        (
            {**FOLDERS, "train_counts": {"good": 0}},
            "train_counts: 0 of good; of two classes the minority alone",
        ),
        (
            {**FOLDERS, "classes": ["a", "b", "bad"], "unlabelled": True},
            "normal or not, but there are 3 classes",
        ),
        ({**FOLDERS, "window": [5, 5]}, "must rise"),
        ({**FOLDERS, "group": "("}, "no regular expression"),
        ({**FOLDERS, "group": "abc"}, "it has 0 "),
        ({**FOLDERS, "group": "(a)(b)"}, "it has 2 "),
        ({**FOLDERS, "name": "../up"}, "pattern"),
        ({**FOLDERS, "deployment_prior": 1.0}, "less than 1"),
        ({**FOLDERS, "deployment_prior": "tset"}, "Input should be 'test'"),
        (with_layout(FOLDERS, train="train"), "{class} must stand"),
        (
            {**with_layout(FOLDERS, test="test/{class}"), "test_per_class": 5},
            "test_per_class has no effect, because the test images lie in test/{class}",
        ),
        ({**with_layout(FOLDERS, test="test/{class}"), "test_share": 0.3}, "test_share has no effect"),
        (
            with_layout(TABLE, label_column="labels"),
            "'labels' is none of the columns .* Did you mean 'label'",
        ),
        (with_layout(TABLE, path_column="file"), "path_column 'file' is none"),
        (
            with_layout(TABLE, values_of_class={"good": ["0", "1"], "bad": ["1"]}),
            "'1' means both good and bad",
        ),
        (with_layout(TABLE, values_of_class={"good": ["0"]}), r"gives no values for \['bad'\]"),
        (with_layout(TABLE, separator=""), "at least 1 char"),
    ],
)
def test_spec_that_cannot_be(document, said):
    with pytest.raises(ValidationError, match=said):
        DataSpec.model_validate(document)
