"""What is made of finished rows: counts, review queue, CSV, heat maps; and that the rows stay one table."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as pads
import pytest
from PIL import Image

from contracts.errors import DataError, UsageError
from export.scoring import csv_files
from export.scoring import heat_maps as heat_maps_module
from export.scoring.heat_maps import draw
from export.scoring.plan import Shard
from export.scoring.summary import Row, _Lowest, distance_to_threshold
from tests import fixtures_onnx as onnx_files
from tests import hostile
from tests.conftest import run_command
from tests.export.scoring.containers import noise_files, write_tar
from workflow.score import Extras, score


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_files.write_two_class_model(tmp_path / "model.onnx", with_map=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    hostile.write_noise_images(tmp_path / "images", 10)
    (tmp_path / "images" / "broken.png").write_bytes(b"broken")
    (tmp_path / "images" / "tiny.png").write_bytes(hostile.encode(hostile.gradient(8, 8)[:3, :3], "PNG"))
    return tmp_path / "images"


def rows_of(output: Path) -> pd.DataFrame:
    return pads.dataset(output).to_table().to_pandas().sort_values("path", ignore_index=True)


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---- counts


def test_counts_per_decision_and_per_reason(tmp_path: Path, model: Path, images: Path, capsys) -> None:
    (images / "tiny2.png").write_bytes(hostile.encode(hostile.gradient(8, 8)[:4, :4], "PNG"))
    report = score(model, [images], output=tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert report.decisions == {name: int((rows.decision == name).sum()) for name in onnx_files.CLASSES}
    assert sum(report.decisions.values()) == report.scored == 10
    assert report.failures == {
        "image is #x# pixels; at least #x# are needed.": 2,
        "not an image that Pillow can identify.": 1,
    }
    told = " ".join(capsys.readouterr().err.split())
    assert f"light {report.decisions['light']}" in told
    assert "image is #x# pixels; at least #x# are needed. 2 66.7 %" in told


def test_the_command_tells_it_as_json(tmp_path: Path, model: Path, images: Path) -> None:
    out = tmp_path / "out"
    options = ("--csv", tmp_path / "all.csv", "--review", 3, "--heat-maps", 2)
    outcome = run_command("score", model, images, "--output", out, *options, "--json")
    assert outcome.code == 4
    assert sum(outcome.json["decisions"].values()) == 10
    assert len(outcome.json["failures"]) == 2
    assert outcome.json["review"] == str(out / "_review.csv")
    assert outcome.json["heat_maps"] == str(out / "_heat_maps")
    assert "already_done" not in outcome.json


# ---- the same bytes, and one table


def test_extras_are_no_part_of_the_table_and_come_out_the_same(
    tmp_path: Path, model: Path, images: Path
) -> None:
    extras = Extras(csv=tmp_path / "out" / "_all.csv", review=5, heat_maps=3)
    score(model, [images], output=tmp_path / "out", extras=extras)
    first = every_file(tmp_path / "out")
    assert len(rows_of(tmp_path / "out")) == len(pd.read_parquet(tmp_path / "out")) == 12
    assert {name.split("/")[0] for name in first if name.startswith("_")} == {
        "_plan.json",
        "_all.csv",
        "_review.csv",
        "_heat_maps",
    }
    score(model, [images], output=tmp_path / "out", extras=extras)
    assert every_file(tmp_path / "out") == first
    score(model, [images], output=tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "_review.csv").exists()
    assert not (tmp_path / "out" / "_heat_maps").exists()


def test_leftovers_of_a_killed_run_go(tmp_path: Path, model: Path, images: Path) -> None:
    (tmp_path / "out" / "._heat_maps.123.tmp").mkdir(parents=True)
    (tmp_path / "out" / "._heat_maps.123.tmp" / "0001-a.png").touch()
    (tmp_path / "out" / "._review.csv.123.tmp").touch()
    score(model, [images], output=tmp_path / "out")
    assert not list((tmp_path / "out").glob(".*"))


def test_the_plan_says_which_columns_there_are(tmp_path: Path, model: Path, images: Path) -> None:
    score(model, [images], output=tmp_path / "out")
    plan = json.loads((tmp_path / "out" / "_plan.json").read_text())
    schema = pads.dataset(tmp_path / "out").schema
    assert plan["schema"] == 3
    assert plan["columns"] == [{"name": column.name, "type": str(column.type)} for column in schema]


# ---- review


def test_the_review_queue_is_nearest_to_the_threshold_first(
    tmp_path: Path, model: Path, images: Path
) -> None:
    score(model, [images], output=tmp_path / "out", threshold=0.3, extras=Extras(review=4))
    rows = rows_of(tmp_path / "out").dropna(subset="probability")
    logit = np.log(rows.probability / (1 - rows.probability)) - math.log(0.3 / 0.7)
    expected = rows.assign(far=logit.abs()).sort_values("far", kind="stable").head(4)
    review = pd.read_csv(tmp_path / "out" / "_review.csv")
    assert review.columns.tolist() == ["rank", "path", "probability", "p_normal", "decision", "log_odds"]
    assert review.path.tolist() == expected.path.tolist()
    assert review["rank"].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(review.log_odds, expected.far, rtol=1e-3)


def test_review_of_three_classes(tmp_path: Path, images: Path) -> None:
    model = onnx_files.write_three_class_model(tmp_path / "three.onnx")
    score(model, [images], output=tmp_path / "out", extras=Extras(review=2))
    review = pd.read_csv(tmp_path / "out" / "_review.csv")
    assert [name for name in review if name.startswith("probability_")] == [
        "probability_reddish",
        "probability_greenish",
        "probability_bluish",
    ]


def slow_distance(p: list[float], t: list[float]) -> float:
    if len(p) == 1:
        return abs(math.log(p[0] / (1 - p[0])) - math.log(t[0] / (1 - t[0])))
    first, second = sorted((math.log(a / b) for a, b in zip(p, t, strict=True)), reverse=True)[:2]
    return first - second


def test_distances_are_those_written_out() -> None:
    rng = np.random.default_rng(0)
    for classes, thresholds in ((1, [0.2]), (3, [0.5, 0.3, 0.1])):
        p = rng.uniform(0.01, 0.99, (20, classes))
        expected = [slow_distance(row.tolist(), thresholds) for row in p]
        np.testing.assert_allclose(distance_to_threshold(p, tuple(thresholds)), expected, rtol=1e-9)
    certain = distance_to_threshold(np.array([[0.0], [1.0], [0.5]]), (0.0,))
    assert np.isfinite(certain).all()


def test_the_lowest_of_many_are_kept_and_no_more() -> None:
    keys = np.random.default_rng(0).integers(0, 50, 1000).tolist()
    lowest = _Lowest(20)
    for order, key in enumerate(keys):
        lowest.offer(float(key), order, Row(Shard("", ()), order, str(order), (0.5,), 0.5, "a", float(key)))
        assert len(lowest._heap) <= 20
    expected = sorted(range(1000), key=lambda order: (keys[order], order))[:20]
    assert [row.position for row in lowest.rows()] == expected
    assert _Lowest(0).rows() == []


# ---- CSV


def test_csv_holds_the_table(tmp_path: Path, model: Path, images: Path) -> None:
    for name in ('quote".png', "comma,.png", "=formula.png", "line\nbreak.png", "ü.png"):
        (images / name).hardlink_to(images / "0000.png")
    score(model, [images], output=tmp_path / "out", extras=Extras(csv=tmp_path / "all.csv"))
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as handle:
        lines = list(csv.DictReader(handle))
    rows = rows_of(tmp_path / "out")
    assert [line["path"] for line in lines] == rows.path.tolist()
    for line, row in zip(lines, rows.itertuples(), strict=True):
        if row.status == "ok":
            assert (line["error"], line["decision"]) == ("", row.decision)
            assert np.float32(line["probability"]) == np.float32(row.probability)
        else:
            assert (line["error"], line["decision"], line["probability"]) == (row.error, "", "")


def test_no_path_of_a_csv_file_is_a_formula_and_each_names_its_file(
    tmp_path: Path, model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["=cmd|' calc'!A0.png", "+1.png", "-1.png", "@sum.png", "\t=1.png", "plain.png"]
    for name in names:
        (images / name).hardlink_to(images / "0000.png")
    monkeypatch.chdir(images)
    extras = Extras(csv=tmp_path / "all.csv", review=9, heat_maps=2)
    score(model, [Path(name) for name in names], output=tmp_path / "out", extras=extras)
    assert set(rows_of(tmp_path / "out").path) == set(names)
    for table in (
        tmp_path / "all.csv",
        tmp_path / "out" / "_review.csv",
        tmp_path / "out/_heat_maps/index.csv",
    ):
        with table.open(newline="", encoding="utf-8") as handle:
            paths = [line["path"] for line in csv.DictReader(handle)]
        assert all(path == "plain.png" or path.startswith("./") for path in paths)
        assert all(Path(path).samefile(images / "0000.png") for path in paths)
        if table.name != "index.csv":
            assert len(paths) == len(names)


def test_csv_among_the_parts_is_refused_before_anything_is_scored(
    tmp_path: Path, model: Path, images: Path
) -> None:
    with pytest.raises(UsageError, match=r"lies among the part files.*_all\.csv"):
        score(model, [images], output=tmp_path / "out", extras=Extras(csv=tmp_path / "out" / "all.csv"))
    with pytest.raises(UsageError, match="is a folder"):
        score(model, [images], output=tmp_path / "out", extras=Extras(csv=images))
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_at_the_csv_keeps_the_rows(
    tmp_path: Path, model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "csv" / "all.csv"

    def full(path: Path):
        raise OSError(28, os.strerror(28), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(csv_files, "atomic_writer", full)
        with pytest.raises(DataError, match="no space is left"):
            score(model, [images], output=tmp_path / "out", extras=Extras(csv=target))
    report = score(model, [images], output=tmp_path / "out", extras=Extras(csv=target))
    assert report.already_done == report.images == 12
    assert len(target.read_text().splitlines()) == 13


# ---- heat maps


def test_heat_maps_of_the_most_probable(tmp_path: Path, model: Path, images: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", noise_files(5, start=20))
    score(model, [images, archive], output=tmp_path / "out", extras=Extras(heat_maps=4))
    rows = rows_of(tmp_path / "out").sort_values("probability", ascending=False, kind="stable").head(4)
    index = pd.read_csv(tmp_path / "out" / "_heat_maps" / "index.csv")
    assert index.path.tolist() == rows.path.tolist()
    assert (
        sorted(path.name for path in (tmp_path / "out" / "_heat_maps").glob("*.png"))
        == index.picture.tolist()
    )
    assert index.picture[0].startswith("0001-0")
    with Image.open(tmp_path / "out" / "_heat_maps" / index.picture[0]) as picture:
        assert picture.size == (512, 256)


def test_colour_lies_where_the_map_is_high() -> None:
    grey = np.full((16, 16, 3), 100, np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[0, 3] = 1.0
    picture = np.asarray(Image.open(io.BytesIO(draw(grey, heat, 0.0, 1.0)))).astype(int)
    left, right = picture[:, :256], picture[:, 256:]
    assert (left == 100).all()
    changed = np.abs(right - 100).sum(axis=2)
    assert changed[10, 245] > 100
    assert changed[200, 20] == 0
    red = np.full((16, 16, 3), (200, 0, 0), np.uint8)
    coloured = np.asarray(Image.open(io.BytesIO(draw(red, heat, 0.0, 1.0))))
    assert coloured[200, 20].tolist() == [200, 0, 0]
    assert len(set(coloured[200, 276].tolist())) == 1
    flat = np.asarray(Image.open(io.BytesIO(draw(grey, heat + 3.0, 3.0, 3.0)))).astype(int)
    assert (flat == 100).all()


def test_an_image_that_has_gone_since_has_no_picture(tmp_path: Path, model: Path, images: Path) -> None:
    score(model, [images], output=tmp_path / "out")
    best = rows_of(tmp_path / "out").sort_values("probability").dropna(subset="probability").path.iloc[-1]
    plan = score(model, [images], output=tmp_path / "out", extras=Extras(heat_maps=2))
    assert plan.heat_maps is not None
    list_file = tmp_path / "list.txt"
    list_file.write_text("".join(f"{path}\n" for path in sorted(images.iterdir())))
    Path(best).unlink()
    score(model, [], list_file=list_file, output=tmp_path / "out", extras=Extras(heat_maps=2))
    index = pd.read_csv(tmp_path / "out" / "_heat_maps" / "index.csv")
    assert index.path[0] == best
    assert "No such file" in index.error[0]
    assert len(list((tmp_path / "out" / "_heat_maps").glob("*.png"))) == 1


def test_a_file_without_map_is_refused_before_anything_is_scored(tmp_path: Path, images: Path) -> None:
    model = onnx_files.write_two_class_model(tmp_path / "plain.onnx")
    with pytest.raises(UsageError, match=r"--heat-maps: .* has no map; none of its members \(bright, red\)"):
        score(model, [images], output=tmp_path / "out", extras=Extras(heat_maps=3))
    with pytest.raises(UsageError, match="0 to 200"):
        score(
            model,
            [images],
            output=tmp_path / "out",
            extras=Extras(heat_maps=heat_maps_module.MOST_HEAT_MAPS + 1),
        )
    assert not (tmp_path / "out").exists()
