"""Data sets named on a hub: fetched once, the same offline, one sentence where they cannot be had.

The settings of ``huggingface_hub`` are read when it is imported, so each hub has a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagedata.layouts.shards import Shards
from tests.imagedata.hub_server import COMMIT, hub_of
from tests.imagedata.layouts.test_shards import pictures, write_parquet
from tests.imagedata.trees import spec_of

ROOT = Path(__file__).parents[2]

# Runs commands one after another and prints [exit code, standard output, standard error in one line] of each.
RUN = """
import contextlib, io, json, sys
import cli
found = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    found.append([code, out.getvalue(), " ".join(err.getvalue().split())])
print(json.dumps(found))
"""


def commands(folder: Path, *lines: list[str], **settings: str) -> list[tuple[int, str, str]]:
    variables = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
        "HF_HOME": str(folder / "hf"),
        "OUTNUMBERED_SPECS": str(folder / "specs"),
        "NO_PROXY": "127.0.0.1",
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(lines)],
        cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tuple(each) for each in json.loads(done.stdout)]


def spec_file(folder: Path, **layout: object) -> str:
    document = {
        "name": "cats",
        "layout": {
            "kind": "shards", "format": "parquet", "hub": {"name": "someone/cats"},
            "train": ["data/train-*.parquet"], "test": ["data/test-*.parquet"],
            "label_of_class": {"dog": 0, "cat": 1}, **layout,
        },
        "classes": ["dog", "cat"],
        "minority": "cat",
    }  # fmt: skip
    path = folder / "cats.yaml"
    path.write_text(json.dumps(document))
    return str(path)


def shards(folder: Path) -> dict[str, bytes]:
    labels = [int(n % 4 == 0) for n in range(24)]
    files = {"README.md": b"# cats", "other/train-0.parquet": b"not asked for"}
    for name, start in (
        ("train-00000-of-00002", 0),
        ("train-00001-of-00002", 24),
        ("test-00000-of-00001", 48),
    ):
        path = write_parquet(folder / name, pictures(folder, 24, start), labels, ("dog", "cat"))
        files[f"data/{name}.parquet"] = path.read_bytes()
    return files


def test_a_set_of_the_hub_is_fetched_once_and_is_the_same_offline(tmp_path):
    spec, runs, asked = spec_file(tmp_path), str(tmp_path / "runs"), []
    check = ["check", spec, "--runs", runs, "--json"]
    with hub_of("someone/cats", shards(tmp_path / "made"), asked) as endpoint:
        online = commands(
            tmp_path,
            ["datasets", "add", "felines", "--hub", "someone/cats", "--json"],
            check,
            ["datasets", "--json"],
            ["check", spec, "-o", "layout.hub.name=someone/dogs", "--runs", runs],
            ["check", spec, "-o", "layout.hub.revision=v9", "--runs", runs],
            ["check", spec, "-o", "layout.train=[data/training-*.parquet]", "--runs", runs],
            ["datasets", "add", "more", "--hub", "some one/cats"],
            HF_ENDPOINT=endpoint,
        )
        added, checked, listed, no_set, no_revision, no_file, no_name = online
    assert added[0] == 0, added
    document = json.loads(added[1])["document"]
    assert document["layout"]["hub"] == {"name": "someone/cats", "revision": COMMIT}
    assert document["layout"]["label_of_class"] == {"dog": "0", "cat": "1"}
    assert json.loads(added[1])["images"] == {"train": {"dog": 36, "cat": 12}, "test": {"dog": 18, "cat": 6}}
    assert checked[0] == 0, checked
    assert json.loads(checked[1])["files"] == 72
    assert next(each for each in json.loads(listed[1]) if each["name"] == "felines")["found"]
    assert sum(line.startswith("GET") and "test-00000" in line for line in asked) == 1
    assert not any("README" in line or "other/" in line for line in asked)
    assert (no_set[0], no_revision[0], no_file[0], no_name[0]) == (3, 3, 3, 2)
    assert f"{endpoint} has no such data set, or keeps it private. Fix layout.hub.name" in no_set[2]
    assert "someone/cats at revision v9" in no_revision[2]
    assert "has no such revision of it. Fix layout.hub.revision." in no_revision[2]
    assert "on the hub has no data/training-*.parquet. Look at its files there" in no_file[2]
    assert "key 'name': got 'some one/cats'" in no_name[2]
    # The hub is gone; what was fetched is there.
    offline = commands(tmp_path, check, ["check", "felines", "--runs", runs, "--json"], HF_HUB_OFFLINE="1")
    again, by_name = (json.loads(out) for _, out, _ in offline)
    assert {key: again[key] for key in ("files", "listed", "root")} == {
        key: json.loads(checked[1])[key] for key in ("files", "listed", "root")
    }
    assert by_name["files"] == 72


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "could not be fetched from http://127.0.0.1:9 (Connect"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set, and the cache"),
    ],
)
def test_no_hub_is_one_sentence(tmp_path, settings, said):
    runs = str(tmp_path / "runs")
    (tmp_path / "specs").mkdir()
    spec = spec_file(tmp_path)
    (tmp_path / "specs" / "cats.yaml").write_text(Path(spec).read_text())
    lines = (["check", spec, "--runs", runs], ["train-all", spec, "--runs", runs], ["datasets", "--json"])
    checked, trained, listed = commands(tmp_path, *lines, **settings)
    for code, out, err in (checked, trained):
        assert (code, out) == (3, "")
        assert err.startswith("Error: cats: someone/cats at revision main: ")
        assert said in err
        assert "HF_HOME" in err
    # Listing what is here asks nobody.
    assert listed[0] == 0
    why = next(each["why"] for each in json.loads(listed[1]) if each["name"] == "cats")
    assert "the cache" in why


def test_a_hub_in_a_spec_is_checked_and_shown(tmp_path):
    spec = spec_of(spec_file(tmp_path))
    assert spec.expected_tree().splitlines()[0] == "  someone/cats on the hub: data/train-*.parquet"
    base = spec.layout.model_dump(exclude_defaults=True) | {"kind": "shards"}
    for changes, said in (
        ({"roots": ["here"]}, "both say where the shards lie"),
        ({"hub": {"name": "../cats"}}, "String should match pattern"),
        ({"hub": {"name": "a/b", "revision": "-x"}}, "String should match pattern"),
    ):
        with pytest.raises(ValueError, match=said):
            Shards.model_validate(base | changes)
