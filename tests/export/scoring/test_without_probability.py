"""Files of runs without labelled minority images, and files that are older than p_normal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from contracts.errors import ModelError, UsageError
from export.deploy import write_deploy_folder
from export.scorer import Scorer
from export.scoring.model import load_model
from imagedata.decoding.decode import decode_file
from tests import fixtures_onnx as onnx_files
from tests import hostile
from workflow.score import Extras, score

LEVELS = [10, 60, 120, 190, 214, 250, 255]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Grey images of rising brightness, and one that is broken."""
    folder = tmp_path / "images"
    folder.mkdir()
    for level in LEVELS:
        pixels = np.full((16, 16, 3), level, np.uint8)
        (folder / f"{level:03d}.png").write_bytes(hostile.encode(pixels, "PNG"))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_files.write_normal_only_model(tmp_path / "normal.onnx")


def rows_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder).sort_values("path", kind="stable").reset_index(drop=True)


def test_rows_have_p_normal_and_no_probability(tmp_path: Path, model: Path, images: Path) -> None:
    report = score(model, [images], output=tmp_path / "out", extras=Extras(csv=tmp_path / "all.csv"))
    rows = rows_of(tmp_path / "out")
    ok = rows[rows.status == "ok"]
    assert rows.probability.isna().all()
    np.testing.assert_allclose(ok.p_normal, np.maximum(1 - np.array(LEVELS) / 255, 0.05), atol=1e-5)
    assert ok.decision.tolist() == ["dark"] * 4 + ["light"] * 3
    assert rows[rows.status == "failed"].p_normal.isna().all()
    assert report.decisions == {"dark": 4, "light": 3}
    assert report.notes[0].startswith("Column probability is empty. Probability needs labelled minority")
    assert "light is decided where p_normal is at most 0.2" in report.notes[1]
    assert len(report.notes) == 2
    lines = pd.read_csv(tmp_path / "all.csv")
    assert lines.probability.isna().all()
    assert lines.p_normal.notna().sum() == 7


def test_the_share_of_false_alarms_can_be_asked_for(tmp_path: Path, model: Path, images: Path) -> None:
    report = score(model, [images], output=tmp_path / "out", threshold=0.05)
    assert report.decisions == {"dark": 5, "light": 2}
    # 1 / 20 is the least that 19 images support, in float32 as well.
    assert len(report.notes) == 2
    none = score(model, [images], output=tmp_path / "none", threshold=0.01)
    assert none.decisions == {"dark": 7, "light": 0}
    assert "No image can be decided so: p_normal is never below 0.05" in none.notes[2]
    assert "Give --threshold 0.05 or more" in none.notes[2]


def test_a_prior_is_refused(tmp_path: Path, model: Path, images: Path) -> None:
    with pytest.raises(UsageError, match=r"a prior was given, but this file has no probability .*Leave the"):
        score(model, [images], output=tmp_path / "out", prior=0.1)
    with pytest.raises(UsageError, match=r"threshold is 1\.5; it is a share of false alarms, from 0 to 1"):
        score(model, [images], output=tmp_path / "out", threshold=1.5)


def test_review_and_heat_maps_go_by_p_normal(tmp_path: Path, model: Path, images: Path) -> None:
    score(model, [images], output=tmp_path / "out", extras=Extras(review=2, heat_maps=3))
    review = pd.read_csv(tmp_path / "out" / "_review.csv")
    assert [Path(path).name for path in review.path] == ["214.png", "190.png"]
    assert review.probability.isna().all()
    assert review.log_odds.tolist() == sorted(review.log_odds)
    index = pd.read_csv(tmp_path / "out" / "_heat_maps" / "index.csv")
    # Both brightest have the least p_normal, and the members' scores tell them apart.
    assert [Path(path).name for path in index.path] == ["255.png", "250.png", "214.png"]
    assert index.p_normal.tolist() == pytest.approx([0.05, 0.05, 1 - 214 / 255], abs=1e-5)


def test_the_embedded_scorer(model: Path, images: Path) -> None:
    [result] = Scorer(model).score_files([images / "250.png"])
    assert (result.probability, result.probabilities, result.decision_probability) == (None, None, None)
    assert (result.decision, result.error) == ("light", None)
    assert result.p_normal == pytest.approx(0.05)


def test_the_deploy_folder_promises_no_probability(tmp_path: Path, model: Path) -> None:
    write_deploy_folder(load_model(model), tmp_path / "deploy")
    card = (tmp_path / "deploy" / "README.md").read_text()
    assert "It gives no probability: Probability needs labelled minority images" in card
    assert "decided light where `p_normal` is at most this, by rule `false_alarms<=0.2`" in card
    assert "| p_normal | p_normal places an image among 19. |" in card
    assert "How good it is" not in card
    assert "calibrated" not in card
    assert 'session.run(["p_normal", "decision"]' in (tmp_path / "deploy/examples/score.py").read_text()
    assert '"p_normal"' in (tmp_path / "deploy/triton/outnumbered/config.pbtxt").read_text()


def test_an_older_file_has_no_p_normal(tmp_path: Path, images: Path) -> None:
    older = onnx_files.write_two_class_model(tmp_path / "older.onnx")
    report = score(older, [images], output=tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert rows.p_normal.isna().all()
    assert rows.probability.notna().sum() == 7
    assert report.notes == (
        "Column p_normal is empty: the file was made before there was one. Give 'ensemble' again.",
    )
    opened = load_model(older)
    pixels = decode_file(images / "060.png", opened.decode).pixels
    assert opened.run(pixels[None]).p_normal is None


def test_a_file_that_judges_nothing_is_refused(tmp_path: Path, model: Path) -> None:
    import onnx

    document = onnx.load(str(model))
    kept = [each for each in document.graph.output if each.name != "p_normal"]
    del document.graph.output[:]
    document.graph.output.extend(kept)
    onnx.save(document, str(tmp_path / "mute.onnx"))
    with pytest.raises(ModelError, match="the graph has no output probability or p_normal"):
        load_model(tmp_path / "mute.onnx")
