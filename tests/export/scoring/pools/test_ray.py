"""Scoring on a Ray cluster: the same rows to the bit, every row once, also when a node is taken away."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.errors import ModelError, UsageError
from export.scoring import score_images
from export.scoring.pools import ray_cluster
from tests import fixtures_onnx as onnx_files
from tests import hostile


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_files.write_two_class_model(tmp_path / "model.onnx")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    hostile.write_noise_images(tmp_path / "images", 96)
    (tmp_path / "images" / "0005.png").write_bytes(b"broken")
    return tmp_path / "images"


def rows_of(output: Path) -> dict[str, list[dict]]:
    return {part.name: pq.read_table(part).to_pylist() for part in sorted(output.glob("part-*.parquet"))}


def test_a_cluster_elsewhere_needs_a_token(model: Path, images: Path, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("ray", reason="needs the extra cluster")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(UsageError, match="joined only with token authentication"):
        score_images(model, [images], tmp_path / "out", ray="10.0.0.1:6379")


def test_without_ray_the_sentence_says_how_to_get_it(
    model: Path, images: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(ray_cluster.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'outnumbered\[cluster\]'"):
        score_images(model, [images], tmp_path / "out", ray="local")


@pytest.fixture
def cluster(monkeypatch):
    """Three nodes of one processor on this machine; the test is connected to it."""
    ray = pytest.importorskip("ray", reason="needs the extra cluster")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    # What the nodes import is what the test imports.
    monkeypatch.setenv("PYTHONPATH", ":".join([str(Path(__file__).parents[4]), *sys.path]))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False)
    yield made, nodes
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_rows_are_those_of_this_machine_and_a_lost_node_costs_nothing(
    cluster, model: Path, images: Path, tmp_path: Path
) -> None:
    made, nodes = cluster
    here = score_images(model, [images], tmp_path / "here", processes=1, shard_size=8)

    def take_a_node_away() -> None:
        parts = tmp_path / "there"
        while len(list(parts.glob("part-*.parquet"))) < 2:
            time.sleep(0.01)
        made.remove_node(nodes[1], allow_graceful=False)

    taker = threading.Thread(target=take_a_node_away)
    taker.start()
    there = score_images(model, [images], tmp_path / "there", shard_size=8, ray="local")
    taker.join()
    assert (
        (there.images, there.scored, there.failed) == (here.images, here.scored, here.failed) == (96, 95, 1)
    )
    assert rows_of(tmp_path / "there") == rows_of(tmp_path / "here")
    again = score_images(model, [images], tmp_path / "there", shard_size=8, ray="local")
    assert again.already_done == 96


@pytest.mark.slow
def test_a_file_that_no_node_can_load_ends_with_a_sentence(cluster, images: Path, tmp_path: Path) -> None:
    from export.scoring.plan import Shard
    from export.scoring.pools import ray_pool
    from export.scoring.shard import ShardJob

    job = ShardJob(tmp_path / "gone.onnx", tmp_path)
    with pytest.raises(ModelError, match="scoring actors end one after another"):
        list(
            ray_pool.score_on_ray(job, [Shard(str(i) * 16, (str(images),)) for i in range(9)], "local", None)
        )
