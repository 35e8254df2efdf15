"""The batch scorer in several processes: killed, interrupted, sabotaged, and still every image once."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.dataset as pads
import pytest

from export.scoring import score_images
from export.scoring.inputs.archives import index_archive
from tests import fixtures_onnx as onnx_files
from tests import hostile
from tests.export.scoring.containers import noise_files, tar_bytes, write_tar

ROOT = Path(__file__).parents[4]
DRIVER = Path(__file__).with_name("scoring_driver.py")
N_IMAGES = 96


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_files.write_two_class_model(tmp_path / "model.onnx")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    hostile.write_noise_images(tmp_path / "images", N_IMAGES)
    (tmp_path / "images" / "0005.png").write_bytes(b"broken")
    return tmp_path / "images"


def drive(tmp_path: Path, images: str = "images", **options) -> subprocess.CompletedProcess:
    """Score ``tmp_path/images`` into ``tmp_path/out`` in a process of its own."""
    arguments = [tmp_path / "model.onnx", tmp_path / images, tmp_path / "out", json.dumps(options)]
    return subprocess.run(
        [sys.executable, DRIVER, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def rows_of(output: Path) -> pd.DataFrame:
    return pads.dataset(output).to_table().to_pandas().sort_values("path", ignore_index=True)


def parts_of(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("part-*.parquet")}


def wait_until_gone(pids: list[int], seconds: float = 10.0) -> list[int]:
    """Wait for processes to end; return those that still run."""

    def runs(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state != "Z"

    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_processes_give_the_same_bytes_as_one(tmp_path: Path, model: Path, images: Path) -> None:
    done = drive(tmp_path, processes=2)
    summary = json.loads(done.stdout)
    assert (summary["images"], summary["scored"], summary["failed"]) == (N_IMAGES, N_IMAGES - 1, 1)
    assert summary["heavy"] == []
    score_images(model, [images], tmp_path / "alone", processes=1, shard_size=16)
    assert parts_of(tmp_path / "out") == parts_of(tmp_path / "alone")


def test_scoring_and_its_command_import_nothing_heavy(tmp_path: Path, model: Path, images: Path) -> None:
    assert json.loads(drive(tmp_path, processes=1).stdout)["heavy"] == []
    heavy = "{'torch', 'torchvision', 'onnx', 'pandas', 'sklearn', 'scipy', 'lightning', 'timm'}"
    subprocess.run(
        [sys.executable, "-c", f"import sys, workflow.score; assert not {heavy} & set(sys.modules)"],
        cwd=ROOT,
        check=True,
    )


def test_killed_half_way_the_same_command_goes_on(tmp_path: Path, model: Path, images: Path) -> None:
    # One worker is deep in an image that takes a minute: it must not outlive the driver to finish it.
    killed = drive(tmp_path, processes=2, kill_after=32, slow="0003.png")
    assert killed.returncode == -9
    workers = json.loads((tmp_path / "workers.json").read_text())
    assert len(workers) == 2
    assert wait_until_gone(workers) == []
    finished = parts_of(tmp_path / "out")
    assert 0 < len(finished) < 6

    summary = json.loads(drive(tmp_path, processes=2).stdout)
    assert summary["already_done"] == 16 * len(finished)
    assert summary["scored"] == N_IMAGES - 1
    rows = rows_of(tmp_path / "out")
    assert rows.path.tolist() == sorted(str(path) for path in images.iterdir())

    score_images(model, [images], tmp_path / "alone", processes=1, shard_size=16)
    assert parts_of(tmp_path / "out") == parts_of(tmp_path / "alone")
    assert not list((tmp_path / "out").glob(".*"))


def test_interrupted_it_ends_its_workers_and_keeps_what_is_finished(
    tmp_path: Path, model: Path, images: Path
) -> None:
    stopped = drive(tmp_path, processes=2, interrupt_after=16, slow="0003.png")
    assert stopped.returncode == 130
    assert stopped.stderr == ""
    assert wait_until_gone(json.loads((tmp_path / "workers.json").read_text()), seconds=2.0) == []
    assert not list((tmp_path / "out").glob(".*"))
    kept = len(parts_of(tmp_path / "out"))
    assert 0 < kept < 6
    assert json.loads(drive(tmp_path, processes=2).stdout)["already_done"] == 16 * kept


def test_an_image_that_ends_workers_is_found_and_the_batch_goes_on(
    tmp_path: Path, model: Path, images: Path
) -> None:
    (images / "0020.png").rename(images / "0020-killer.png")
    summary = json.loads(drive(tmp_path, processes=2).stdout)
    assert (summary["scored"], summary["failed"]) == (N_IMAGES - 2, 2)
    failed = rows_of(tmp_path / "out").query("status == 'failed'").set_index("path").error
    assert "SIGSEGV" in failed[str(images / "0020-killer.png")]


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path, model: Path, images: Path) -> None:
    (images / "0020.png").rename(images / "0020-moody.png")
    summary = json.loads(drive(tmp_path, processes=2).stdout)
    assert (tmp_path / "moody-was-here").exists()
    assert (summary["scored"], summary["failed"]) == (N_IMAGES - 1, 1)
    score_images(model, [images], tmp_path / "alone", processes=1, shard_size=16)
    assert parts_of(tmp_path / "out") == parts_of(tmp_path / "alone")


def test_a_worker_that_cannot_write_says_so(tmp_path: Path, model: Path, images: Path) -> None:
    ended = drive(tmp_path, processes=2, largest_file=1500)
    assert ended.returncode == 3
    assert "no space is left" in ended.stderr
    assert "finished shards are kept" in ended.stderr
    assert parts_of(tmp_path / "out") == {}
    assert not list((tmp_path / "out").glob(".*"))


def test_a_disk_that_fills_half_way_keeps_what_is_finished(tmp_path: Path, model: Path, images: Path) -> None:
    for name in images.glob("009*.png"):  # long names make the last part larger than the others
        name.rename(images / f"{name.stem}-{hashlib.sha512(name.stem.encode()).hexdigest()}.png")
    alone = tmp_path / "alone"
    score_images(model, [images], alone, processes=1, shard_size=16)
    sizes = {name: len(data) for name, data in parts_of(alone).items()}
    ended = drive(tmp_path, processes=2, largest_file=max(sizes.values()) - 1)
    assert ended.returncode == 3
    assert "no space is left" in ended.stderr
    kept = parts_of(tmp_path / "out")
    assert 0 < len(kept) < 6
    assert not list((tmp_path / "out").glob(".*"))
    summary = json.loads(drive(tmp_path, processes=2).stdout)
    assert summary["already_done"] == 16 * len(kept)
    assert parts_of(tmp_path / "out") == parts_of(alone)


def test_a_worker_killed_from_outside_costs_nothing(tmp_path: Path, model: Path, images: Path) -> None:
    summary = json.loads(drive(tmp_path, processes=2, kill_worker_after=16).stdout)
    assert (summary["scored"], summary["failed"]) == (N_IMAGES - 1, 1)
    score_images(model, [images], tmp_path / "alone", processes=1, shard_size=16)
    assert parts_of(tmp_path / "out") == parts_of(tmp_path / "alone")


def test_a_file_that_vanishes_is_a_failed_row(tmp_path: Path, model: Path, images: Path) -> None:
    expected = sorted(str(path) for path in images.iterdir())
    summary = json.loads(drive(tmp_path, processes=2, vanish_after=16, vanish="0095.png").stdout)
    assert (summary["images"], summary["failed"]) == (N_IMAGES, 2)
    rows = rows_of(tmp_path / "out")
    assert rows.path.tolist() == expected
    assert "No such file" in rows.set_index("path").error[str(images / "0095.png")]


# ---- archives


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "a.tar", noise_files(N_IMAGES))


def test_an_archive_in_processes_killed_and_gone_on(tmp_path: Path, model: Path, archive: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(gzip.compress(tar_bytes(noise_files(N_IMAGES))))
    for name in ("a.tar", "a.tgz"):
        assert drive(tmp_path, name, processes=2, kill_after=32).returncode == -9
        kept = len(parts_of(tmp_path / "out"))
        assert 0 < kept < 6
        summary = json.loads(drive(tmp_path, name, processes=2).stdout)
        assert (summary["already_done"], summary["scored"]) == (16 * kept, N_IMAGES)
        score_images(model, [tmp_path / name], tmp_path / "alone", processes=1, shard_size=16)
        assert parts_of(tmp_path / "out") == parts_of(tmp_path / "alone")
        shutil.rmtree(tmp_path / "out")
        shutil.rmtree(tmp_path / "alone")


def test_an_archive_that_is_cut_off_while_it_is_read(tmp_path: Path, model: Path, archive: Path) -> None:
    places = list(index_archive(str(archive)))
    last_whole = places[89][1]
    cut_to = last_whole.offset + last_whole.size
    done = drive(tmp_path, archive.name, processes=2, cut_after=16, cut_to=cut_to)
    summary = json.loads(done.stdout)
    rows = rows_of(tmp_path / "out").set_index("path", verify_integrity=True)
    assert rows.index.tolist() == [f"{archive}::{each}" for each, _ in places]
    assert summary["images"] == len(rows) == N_IMAGES
    lost = rows.loc[[f"{archive}::{each}" for each, _ in places[90:]]]
    assert lost.error.str.contains("ends within it|has changed since").all()
    write_tar(archive, noise_files(N_IMAGES))
    score_images(model, [archive], tmp_path / "alone", processes=1, shard_size=16)
    whole = rows_of(tmp_path / "alone").set_index("path")
    scored = rows.query("status == 'ok'")
    pd.testing.assert_frame_equal(scored, whole.loc[scored.index])
    assert len(scored) + summary["failed"] == N_IMAGES


def test_workers_that_cannot_start_are_given_up(tmp_path: Path, model: Path, images: Path) -> None:
    ended = drive(tmp_path, processes=2, die_at_start=True)
    assert ended.returncode == 5
    assert "end while they start (exit code 9), 3 in a row. Use --processes 1" in ended.stderr
