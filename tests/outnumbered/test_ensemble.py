"""A run from Python: the same folder, functions and numbers as the command line's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from contracts.errors import DataError, ModelError, UsageError
from outnumbered import Ensemble
from tests.pictures import write_pictures


@pytest.fixture(scope="module")
def run(fitted):
    """A run that the command line made; not to be changed."""
    return fitted[0]


@pytest.fixture(scope="module")
def ensemble(run):
    return Ensemble.load(run.folder)


def test_fit_goes_on_where_the_command_line_stopped(run, capfd):
    ensemble = Ensemble.fit(run.dataset, recipe=run.recipe, runs=run.runs)
    said = capfd.readouterr().err
    assert "Nothing to do: all 16 fits" in said
    assert ensemble.folder == run.folder
    assert repr(ensemble) == f"Ensemble('{run.folder}')"


def test_the_command_line_goes_on_where_python_stopped(run, tmp_path, capfd):
    copied = run.copy(tmp_path)
    Ensemble.fit(copied.dataset, recipe=copied.recipe, runs=copied.runs, threshold="cost:1:5", jobs=1)
    capfd.readouterr()
    outcome = copied.command("ensemble", "-o", "threshold=cost:1:5")
    assert "Nothing to do" in outcome.said
    # What the ensemble was asked for is in its folder, though training never heard of it.
    assert Ensemble.load(copied.folder).sentences == Ensemble.load(copied.folder).sentences
    assert any("cost:1:5" in sentence for sentence in Ensemble.load(copied.folder).sentences)


def test_metrics_are_the_table_of_the_command_line(ensemble, fitted):
    rows = {row["name"]: row for row in fitted[1].json["rows"]}
    metrics = ensemble.metrics
    assert list(dict.fromkeys(metrics.index.get_level_values("model"))) == list(rows)
    for name, row in rows.items():
        of_model = metrics.loc[(name, "auroc")]
        assert of_model["value"] == row["auroc"]
        assert [of_model["low"], of_model["high"]] == row["intervals"]["auroc"]
        assert of_model["minus_baseline"] == row["minus_baseline"]["auroc"][0]


def test_scores_of_a_folder_of_files_and_of_arrays_agree(ensemble, run, tmp_path):
    folder = run.dataset / "test" / "odd"
    of_folder = ensemble.score(folder)
    files = sorted(folder.glob("*.png"), reverse=True)
    of_files = ensemble.score([files[0], *files])
    assert of_files["path"].tolist() == [str(files[0]), *map(str, files)]
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
    of_arrays = ensemble.score(pictures)
    assert of_arrays.columns.tolist() == of_folder.columns.tolist()[1:]
    assert of_arrays.dtypes.tolist() == of_folder.dtypes.tolist()[1:]
    pd.testing.assert_frame_equal(of_arrays, of_folder.drop(columns="path"), atol=1e-6)
    pd.testing.assert_frame_equal(
        ensemble.score(np.stack(pictures[:3])), of_arrays.iloc[:3].reset_index(drop=True), atol=1e-6
    )
    assert not list(tmp_path.iterdir())


def test_scores_in_a_folder_are_kept_and_continued(ensemble, run, tmp_path, capfd):
    folder, output = run.dataset / "test" / "odd", tmp_path / "scores"
    first = ensemble.score(folder, output=output)
    assert f"Rows: {output}" in " ".join(capfd.readouterr().err.split())
    pd.testing.assert_frame_equal(ensemble.score(folder, output=output), first)
    assert "Nothing to do" in capfd.readouterr().err


def test_prior_and_threshold_reach_the_graph(ensemble, run):
    folder = run.dataset / "test" / "odd"
    rare = ensemble.score(folder, prior=0.001, threshold=0.0)
    own = ensemble.score(folder)
    assert (rare["probability"] <= own["probability"]).all()
    assert rare["probability"].min() < own["probability"].min()
    assert set(rare["decision"]) == {"odd"}


def test_a_broken_image_is_a_row_with_its_reason(ensemble, tmp_path):
    [good] = write_pictures(tmp_path, 1, True, 5)
    bad = tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:100])
    table = ensemble.score([bad, good])
    assert table["status"].tolist() == ["failed", "ok"]
    assert table["probability"].isna().tolist() == [True, False]
    assert "truncated" in table["error"][0]


def test_what_cannot_be_scored(ensemble, tmp_path):
    with pytest.raises(UsageError, match="nothing to score was named"):
        ensemble.score([])
    with pytest.raises(UsageError, match="does not exist"):
        ensemble.score(tmp_path / "absent.png")
    with pytest.raises(UsageError, match=r"picture 0: got uint8 of shape \[64, 3\]"):
        ensemble.score(np.zeros((64, 64, 3), dtype=np.uint8))
    with pytest.raises(UsageError, match="output and processes are for files"):
        ensemble.score([np.zeros((64, 64, 3), dtype=np.uint8)], output=tmp_path)


def test_an_explanation_is_a_figure_that_notebooks_show(run, tmp_path):
    ensemble = Ensemble.load(run.copy(tmp_path).folder)
    image = run.dataset / "test" / "odd" / "000.png"
    figure = ensemble.explain(image)
    shown = figure._repr_png_()
    assert shown.startswith(b"\x89PNG")
    [written] = (ensemble.folder / "explanations").glob("*.png")
    assert written.read_bytes() == shown
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        ensemble.explain(broken)


def test_update_takes_files_and_says_what_became_of_each(run, tmp_path):
    ensemble = Ensemble.load(run.copy(tmp_path).folder)
    before = ensemble.model.read_bytes()
    fine, odd = (write_pictures(tmp_path / name, 2, name == "odd", 77) for name in ("fine", "odd"))
    table = ensemble.update(normal=fine, missed=tmp_path / "odd")
    assert table["label"].tolist() == ["fine", "fine", "odd", "odd"]
    assert table["probability_after"].between(0, 1).all()
    assert set(map(Path, table["path"])) == {*fine, *odd}
    assert ensemble.model.read_bytes() != before
    with pytest.raises(UsageError, match="update: no images named"):
        ensemble.update(normal=[])


def test_export_writes_where_it_is_told_and_refuses_a_precision_that_is_none(run, ensemble, tmp_path):
    assert ensemble.export(tmp_path / "parts.onnx") == tmp_path / "parts.onnx"
    assert (tmp_path / "deploy" / "README.md").is_file()
    assert ensemble.model == run.folder / "model.onnx"
    with pytest.raises(UsageError, match="precision fp23: there is no such precision"):
        ensemble.export(precision="fp23")


def test_a_moved_data_set_is_found_where_it_is_said_to_be(run, tmp_path):
    copied = run.copy(tmp_path / "here", with_dataset=True)
    Ensemble.fit(copied.dataset, recipe=copied.recipe, runs=copied.runs)
    moved = tmp_path / "there" / copied.dataset.name
    moved.parent.mkdir()
    shutil.move(copied.dataset, moved)
    with pytest.raises(UsageError, match="no such folder"):
        _ = Ensemble.load(copied.folder).metrics
    assert not Ensemble.load(copied.folder, source=moved).metrics.empty


def test_a_folder_that_is_no_run_or_has_lost_its_options(run, tmp_path):
    with pytest.raises(ModelError, match=r"no run folder, which would hold config\.json"):
        Ensemble.load(tmp_path)
    copied = run.copy(tmp_path)
    (copied.folder / "options.json").write_text("{}")
    with pytest.raises(ModelError, match=r"options\.json is missing or damaged"):
        Ensemble.load(copied.folder)


def test_a_run_without_its_file(run, tmp_path):
    copied = run.copy(tmp_path)
    (copied.folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"the file is gone\. Call export"):
        Ensemble.load(copied.folder).score("x.png")
