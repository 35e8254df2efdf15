"""The batch scorer in one process: one row per image, resuming, refusing, and what it tells."""

import errno
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as pads
import pytest

from contracts.errors import DataError, ModelError, UsageError
from export.scoring import score_images, shard
from imagedata.decoding.decode import DecodeSettings, decode_file
from tests import fixtures_onnx as onnx_files
from tests import hostile
from workflow import score as score_command


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_files.write_two_class_model(tmp_path / "model.onnx")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    hostile.write_noise_images(tmp_path / "images", 10)
    return tmp_path / "images"


def table(output: Path) -> pd.DataFrame:
    return pads.dataset(output).to_table().to_pandas().sort_values("path", ignore_index=True)


def part_bytes(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("part-*.parquet")}


def test_one_row_an_image_whatever_it_is_like(tmp_path: Path, model: Path) -> None:
    expected = hostile.write_hostile_folder(tmp_path / "in")
    seen: list[tuple[int, int, int]] = []
    summary = score_images(
        model, [tmp_path / "in"], tmp_path / "out", shard_size=5, on_progress=lambda *n: seen.append(n)
    )
    rows = table(tmp_path / "out")
    status = {os.path.relpath(row.path, tmp_path / "in"): row.status for row in rows.itertuples()}
    assert status == {path: "ok" if readable else "failed" for path, readable in expected.items()}
    assert len(rows) == len(expected)
    failed = rows[rows.status == "failed"]
    assert failed[["probability", "decision", "score_bright", "score_red"]].isna().all(axis=None)
    assert failed.error.str.len().min() > 5
    scored = rows[rows.status == "ok"]
    assert scored.error.isna().all()
    for row in scored.itertuples():
        pixels = decode_file(Path(row.path), DecodeSettings(onnx_files.SIZE)).pixels
        assert row.probability == pytest.approx(onnx_files.expected_probability(pixels), abs=1e-5)
        assert row.decision == ("light" if row.probability >= 0.5 else "dark")
    assert (summary.images, summary.scored, summary.failed) == (len(rows), len(scored), len(failed))
    assert seen[0] == (0, 0, len(rows))
    assert seen[-1] == (len(rows), len(failed), len(rows))


def test_columns_and_types(tmp_path: Path, model: Path, images: Path) -> None:
    score_images(model, [images], tmp_path / "out")
    schema = pads.dataset(tmp_path / "out").schema
    assert {field.name: str(field.type) for field in schema} == {
        "path": "string",
        "probability": "float",
        "p_normal": "float",
        "p_minority": "float",
        "decision": "string",
        "triage": "string",
        "score_bright": "float",
        "score_red": "float",
        "status": "string",
        "error": "string",
    }
    assert len(pd.read_parquet(tmp_path / "out")) == 10
    assert not list((tmp_path / "out").glob(".*"))


def test_more_than_two_classes_have_a_column_each(tmp_path: Path, images: Path) -> None:
    model = onnx_files.write_three_class_model(tmp_path / "three.onnx")
    score_images(model, [images], tmp_path / "out")
    rows = table(tmp_path / "out")
    columns = [f"probability_{name}" for name in ("reddish", "greenish", "bluish")]
    probabilities = rows[columns].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert [columns[i][len("probability_") :] for i in probabilities.argmax(axis=1)] == rows.decision.tolist()
    assert "probability" not in rows


def test_a_score_that_is_no_number_is_a_failed_row(tmp_path: Path, images: Path) -> None:
    model = onnx_files.write_two_class_model(tmp_path / "nan.onnx", nan_when_black=True)
    (images / "black.png").write_bytes(hostile.encode(np.zeros((16, 16, 3), np.uint8), "PNG"))
    summary = score_images(model, [images], tmp_path / "out")
    failed = table(tmp_path / "out").query("status == 'failed'")
    assert (summary.failed, Path(failed.path.item()).name) == (1, "black.png")
    assert "not a finite number" in failed.error.item()


def test_prior_and_threshold_reach_the_graph(tmp_path: Path, model: Path, images: Path) -> None:
    score_images(model, [images], tmp_path / "own")
    score_images(model, [images], tmp_path / "rare", prior=0.01, threshold=0.0)
    own, rare = table(tmp_path / "own"), table(tmp_path / "rare")
    odds = own.probability / (1 - own.probability) / 99
    np.testing.assert_allclose(rare.probability, odds / (1 + odds), rtol=1e-4)
    assert set(rare.decision) == {"light"}


def test_a_finished_run_is_a_no_op(tmp_path: Path, model: Path, images: Path, capsys) -> None:
    first = score_command.score(model, [images], output=tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    again = score_command.score(model, [images], output=tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")} == before
    assert (again.images, again.scored, again.already_done) == (10, 10, 10)
    assert (again.images_per_second, first.already_done) == (0.0, 0)
    captured = capsys.readouterr()
    assert "Nothing to do: all 10 images were scored by an earlier run." in captured.err
    assert captured.out == ""


def test_exactly_the_missing_shards_are_scored(tmp_path: Path, model: Path, images: Path) -> None:
    score_images(model, [images], tmp_path / "out", shard_size=3)
    whole = part_bytes(tmp_path / "out")
    names = sorted(whole)
    (tmp_path / "out" / names[0]).unlink()
    (tmp_path / "out" / names[1]).write_bytes(whole[names[1]][:50])  # a damaged part is no result
    (tmp_path / "out" / f".{names[2]}.123.tmp").write_bytes(b"left by a killed process")
    kept = sum(len(pd.read_parquet(tmp_path / "out" / name)) for name in names[2:])
    summary = score_images(model, [images], tmp_path / "out", shard_size=3)
    assert summary.already_done == kept
    assert part_bytes(tmp_path / "out") == whole
    assert not list((tmp_path / "out").glob(".*.tmp"))


def test_another_batch_size_goes_on_from_the_same_shards(tmp_path: Path, model: Path, images: Path) -> None:
    score_images(model, [images], tmp_path / "out", batch_size=4)
    assert score_images(model, [images], tmp_path / "out", batch_size=1).already_done == 10


@pytest.mark.parametrize("change", ["images", "prior", "model"])
def test_results_of_another_run_are_refused(tmp_path: Path, model: Path, images: Path, change: str) -> None:
    score_images(model, [images], tmp_path / "out")
    before = part_bytes(tmp_path / "out")
    prior = None
    if change == "images":
        hostile.write_noise_images(images, 1, "new-{}.png".format)
    elif change == "prior":
        prior = 0.2
    else:
        onnx_files.write_two_class_model(model, onnx_files.metadata(dataset="another"))
    with pytest.raises(UsageError, match=r"holds results of another run .*--overwrite"):
        score_images(model, [images], tmp_path / "out", prior=prior)
    assert part_bytes(tmp_path / "out") == before
    summary = score_images(model, [images], tmp_path / "out", prior=prior, overwrite=True)
    assert summary.already_done == 0
    assert len(table(tmp_path / "out")) == summary.images


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, model: Path, images: Path) -> None:
    before = {path.name for path in images.iterdir()}
    with pytest.raises(UsageError, match=r"holds files that are no results, such as 0000\.png"):
        score_images(model, [images], images, overwrite=True)
    assert {path.name for path in images.iterdir()} == before


def test_output_that_is_a_file(tmp_path: Path, model: Path, images: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match=r"is a file\. Name a folder"):
        score_images(model, [images], tmp_path / "out")


def test_two_runs_do_not_share_a_folder(tmp_path: Path, model: Path, images: Path) -> None:
    def rival(done: int, failed: int, total: int) -> None:
        if done == 0:
            with pytest.raises(UsageError, match="is being written by another run"):
                score_images(model, [images], tmp_path / "out")

    assert score_images(model, [images], tmp_path / "out", on_progress=rival).scored == 10


def test_the_plan_says_what_the_parts_belong_to(tmp_path: Path, model: Path, images: Path) -> None:
    score_images(model, [images], tmp_path / "out", shard_size=4, threshold=0.3)
    plan = json.loads((tmp_path / "out" / "_plan.json").read_text())
    assert {f"part-{shard_id}.parquet" for shard_id in plan["shards"]} == set(part_bytes(tmp_path / "out"))
    assert (plan["images"], plan["settings"]["threshold"]) == (10, 0.3)
    assert len(plan["settings"]["model_sha256"]) == 64


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_full_disk_is_told_in_words(
    tmp_path: Path, model: Path, images: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real_writer, calls = shard.atomic_writer, []

    @contextmanager
    def writer_on_a_full_disk(path: Path):
        calls.append(path)
        if len(calls) > 1:
            raise OSError(number, os.strerror(number), str(path))
        with real_writer(path) as handle:
            yield handle

    monkeypatch.setattr(shard, "atomic_writer", writer_on_a_full_disk)
    with pytest.raises(DataError, match=r"results cannot be written: .*give the same command again"):
        score_images(model, [images], tmp_path / "out", shard_size=4)
    monkeypatch.setattr(shard, "atomic_writer", real_writer)
    assert score_images(model, [images], tmp_path / "out", shard_size=4).already_done == 4


@pytest.mark.parametrize("setting", ["processes", "batch_size", "shard_size"])
def test_counts_below_one_are_refused(tmp_path: Path, model: Path, images: Path, setting: str) -> None:
    with pytest.raises(UsageError, match=f"{setting.replace('_', ' ')} is 0; it must be at least 1"):
        score_images(model, [images], tmp_path / "out", **{setting: 0})


def test_nothing_is_written_when_the_model_is_wrong(tmp_path: Path, images: Path) -> None:
    with pytest.raises(ModelError):
        score_images(onnx_files.write_foreign_model(tmp_path / "m.onnx"), [images], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_of_odd_bytes_are_stored_escaped(tmp_path: Path, model: Path, images: Path) -> None:
    shutil.copy(images / "0000.png", os.fsencode(images) + b"/caf\xe9.png")
    assert score_images(model, [images], tmp_path / "out").scored == 11
    assert table(tmp_path / "out").path.str.endswith(r"caf\udce9.png").sum() == 1


def test_failures_are_shown_with_their_reasons(tmp_path: Path, model: Path, images: Path, capsys) -> None:
    for index in range(5):
        (images / f"broken[{index}].jpg").write_bytes(b"no image")
    summary = score_command.score(model, [images], output=tmp_path / "out")
    told = capsys.readouterr().err
    assert (summary.scored, summary.failed) == (10, 5)
    assert "5 of 15 images failed:" in told
    assert "broken[0].jpg: not an image that Pillow can identify." in told
    assert "broken[3].jpg" not in told
    assert str(tmp_path / "out") in told
