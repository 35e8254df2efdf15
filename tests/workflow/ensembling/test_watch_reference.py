"""What an exported file keeps of training: of training rows alone, by models that had not seen them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from export.scoring.model import load_model
from export.scoring.watch.reference import bin_counts, is_feature, reference_of
from tests.conftest import Outcome, Run, run_command


def test_the_file_counts_training_rows_by_out_of_fold_scores(fitted: tuple[Run, Outcome]) -> None:
    run, _ = fitted
    kept = reference_of(load_model(run.folder / "model.onnx").document)
    assert kept is not None
    oof = pq.read_table(run.folder / "oof.parquet").to_pydict()
    for quantity in kept.quantities:
        # Of the pooled features, rows that no direction was fitted on.
        n_counted = quantity.counts.sum()
        assert n_counted < len(oof["path"]) if is_feature(quantity.name) else n_counted == len(oof["path"])
        if quantity.name in oof:
            values = np.asarray(oof[quantity.name], dtype=np.float64)
            np.testing.assert_array_equal(quantity.counts.sum(axis=0), bin_counts(quantity.edges, values))
    names = [quantity.name for quantity in kept.quantities]
    assert set(names) >= {name for name in oof if name.startswith("score_")}
    assert {"sharpness", "log_odds"} <= set(names)
    # Twelve labelled minority images do not tell the classes apart.
    assert not kept.by_class
    assert kept.log_odds is None
    assert kept.no_share == "it rests on 12 labelled minority images; 20 are needed."


def test_a_batch_of_test_images_is_compared(fitted: tuple[Run, Outcome], tmp_path: Path) -> None:
    run, _ = fitted
    images = run.dataset / "test"
    ran = run_command("score", run.folder / "model.onnx", images, "--output", tmp_path / "out", "--json")
    watch = json.loads(ran.out)["watch"]
    assert watch["compared"] is (watch["images"] >= 20)
    assert "Share of" in ran.said or "too few" in ran.said
