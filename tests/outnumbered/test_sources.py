"""What a caller has in hand, as a data set that the command line reads as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from contracts.errors import DataError, UsageError
from outnumbered.sources import dataset_of, overrides_of
from tests.pictures import write_two_classes
from workflow.settings.config import RunOptions, resolve_config
from workflow.settings.documents import parse_overrides


@pytest.fixture
def files(tmp_path, monkeypatch) -> tuple[list[str], list[str]]:
    """Paths relative to the current folder, and their labels."""
    monkeypatch.chdir(tmp_path)
    write_two_classes(Path("parts"), 6, 2, names=("fine", "scratched"))
    paths = [str(path) for path in sorted(Path("parts").rglob("*.png"))]
    return paths, [Path(path).parent.name for path in paths]


def spec_of(dataset: str, **options):
    return resolve_config(RunOptions(dataset=dataset, **options)).spec


def test_a_place_or_a_name_is_what_it_is():
    assert dataset_of("gender_B", None, None, Path("runs")) == "gender_B"
    assert dataset_of(Path("parts"), None, None, Path("runs")) == "parts"


def test_paths_with_labels(files, tmp_path):
    paths, labels = files
    dataset = dataset_of(paths, labels, None, Path("runs"))
    assert Path(dataset).parent == tmp_path / "runs" / "lists"
    spec = spec_of(dataset)
    assert list(spec.class_names) == ["fine", "scratched"]
    images = spec.list_images(spec.find(None))
    assert sorted(image.label for image in images) == sorted(labels)
    # The same list is the same data set, and so the same run; another one is another.
    assert dataset_of(paths, labels, None, Path("runs")) == dataset
    assert dataset_of(paths[1:], labels[1:], None, Path("runs")) != dataset


def test_a_named_list_stays_the_same_data_set_when_it_changes(files):
    paths, labels = files
    first = dataset_of(paths, labels, "line_7", Path("runs"))
    second = dataset_of(paths[1:], labels[1:], "line_7", Path("runs"))
    assert first == second
    assert spec_of(first).name == "line_7"
    assert len(Path(first).read_text().splitlines()) == len(paths)


def test_paths_without_labels_are_images_without_labels(files):
    paths, _ = files
    assert spec_of(dataset_of([Path(each) for each in paths], None, None, Path("runs"))).unlabelled


def test_a_table_with_groups_and_splits(files):
    paths, labels = files
    table = pd.DataFrame(
        {
            "Image": paths,
            "class": labels,
            "patient": [1, 1, 2, 2, 3, 3, 4, 5],
            "split": ["train"] * 4 + ["test"] * 2 + ["train", "test"],
        }
    )
    spec = spec_of(dataset_of(table, None, "cells", Path("runs")), minority="scratched")
    assert (spec.layout.path_column, spec.layout.label_column) == ("Image", "class")
    images = list(spec.list_images(spec.find(None)))
    assert [image.split for image in images].count("test") == 3
    assert {image.group for image in images} == {"1", "2", "3", "4", "5"}


def test_a_gap_in_a_table_is_refused_and_never_a_group_called_nan(files):
    paths, labels = files
    table = pd.DataFrame(
        {"path": paths, "label": labels, "patient": [1.0, None, 2.0, 2.0, 3.0, 3.0, 4.0, 5.0]}
    )
    spec = spec_of(dataset_of(table, None, "cells", Path("runs")), minority="scratched")
    with pytest.raises(DataError, match="empty cell: 1"):
        list(spec.list_images(spec.find(None)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a.png"], ["x", "y"], None), r"labels: got 2 for 1 paths"),
        (("parts", ["x"], None), r"labels: a data set that lies on disk has its own"),
        (("parts", None, "x"), r"name: a data set that lies on disk"),
        (([], None, None), r"source: got list\. Give a data set's name"),
        ((7, None, None), r"source: got int\."),
        ((["a.png"], None, "../up"), r"name '\.\./up': use letters"),
        ((pd.DataFrame({"x": [1]}), None, None), r"columns x, of which none is called like a path"),
        ((pd.DataFrame({"path": []}), None, None), r"the table has no rows"),
        ((pd.DataFrame({"path": ["a"]}), ["x"], None), r"labels: a table has a column of them"),
    ],
)
def test_what_cannot_be(arguments, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        dataset_of(*arguments, tmp_path)


def test_overrides_are_read_back_as_they_were_given():
    given = {
        "folds": np.int64(3),
        "threshold": "cost:1:10",
        "test_share": 0.2,
        "views": ["mirror", "noise"],
        "roi": Path("mask.png"),
        "deployment_prior": None,
        "title": "no",
        "near_duplicates": "3",
        "members": {"cnn": {"loss": "focal"}, "knn": False},
    }
    read = {".".join(key): value for key, value in parse_overrides(overrides_of(given))}
    assert read == {
        "folds": 3,
        "threshold": "cost:1:10",
        "test_share": 0.2,
        "views": ["mirror", "noise"],
        "roi": "mask.png",
        "deployment_prior": None,
        "title": "no",
        "near_duplicates": "3",
        "members.cnn.loss": "focal",
        "members.knn": False,
    }
    with pytest.raises(UsageError, match="override: got a set"):
        overrides_of({"folds": {1}})
