"""``export --precision`` and ``parity``: a second file that has passed its gate, or none."""

import pytest

from evaluation import agreement as agreement_module
from export.scoring import load_model
from tests.conftest import Outcome, Run


@pytest.fixture
def run(fitted: tuple[Run, Outcome], tmp_path) -> Run:
    return fitted[0].copy(tmp_path)


def test_int8_is_kept_with_its_figures_and_parity_shows_it(run: Run, monkeypatch: pytest.MonkeyPatch):
    # What the gate accepts is tested beside it; the figures of a tiny random backbone mean nothing.
    monkeypatch.setattr(agreement_module, "MOST_AUROC_LOSS", 1.0)
    monkeypatch.setattr(agreement_module, "MOST_DECISIONS_CHANGED", 1.0)
    outcome = run.command("export", "--precision", "int8", "--json")
    assert outcome.code == 0, outcome.err
    path = run.folder / "model.int8.onnx"
    assert outcome.json["model"] == str(path)
    document = load_model(path).document
    assert document["precision"] == "int8"
    assert document["int8_convolutions"] > 0
    assert document["gate"] == outcome.json["gate"]
    figures = document["gate"]["onnxruntime"]
    assert figures["images"] == 20
    assert set(figures["rank_correlation"]) == {"patchcore", "deep_svdd", "cnn", "cnn_weighted"}
    assert 0 < figures["max_probability_difference"] < 1
    low, high = figures["auroc_change_interval"]
    assert low <= figures["auroc_change"] <= high
    assert figures["limits"]["auroc_loss"] == 1.0
    if "openvino" in document["gate"]:
        of_runtimes = document["gate"]["openvino"]["rank_correlation_of_runtimes"]
        assert set(of_runtimes) == set(figures["rank_correlation"])
        assert min(of_runtimes.values()) > 0.9, of_runtimes

    shown = run.command("parity", "--json")
    assert shown.code == 0, shown.err
    rows = {(row["file"], row["runtime"]): row for row in shown.json["rows"]}
    assert rows["model.onnx", "onnxruntime"]["max_probability_difference"] <= 1e-4
    assert rows["model.int8.onnx", "onnxruntime"]["images"] == 20

    # A fit that has gone on leaves the variant behind, which nobody should ship unawares.
    assert run.command("ensemble", "-o", "threshold=max_f1").code == 0
    shown = run.command("parity", "-o", "threshold=max_f1", "--json")
    rows = {(row["file"], row["runtime"]): row for row in shown.json["rows"]}
    assert "made of an earlier model.onnx" in rows["model.int8.onnx", "onnxruntime"]["skipped"]
    assert "skipped" not in rows["model.onnx", "onnxruntime"]


def test_int8_beyond_the_limit_is_refused_with_the_figures(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agreement_module, "MOST_AUROC_LOSS", -2.0)
    outcome = run.command("export", "--precision", "int8")
    assert outcome.code == 5
    assert "the int8 file is refused by the accuracy gate and not kept" in outcome.said
    assert "onnxruntime: the AUROC falls by" in outcome.said
    assert "rank correlations with fp32 patchcore" in outcome.said
    assert not list(run.folder.glob("*int8*"))


def test_unknown_precision_is_refused(run: Run):
    outcome = run.command("export", "--precision", "int9")
    assert outcome.code == 2
    assert "--precision int9: there is no such precision. Did you mean 'int8'?" in outcome.said


def test_bf16_without_the_arithmetic_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("openvino", reason="needs the extra fast")
    monkeypatch.setattr("export.scoring.runtimes.openvino_session.processor_capabilities", lambda: ["FP32"])
    outcome = run.command("export", "--precision", "bf16")
    assert outcome.code == 2
    assert "this processor has no bfloat16 arithmetic" in outcome.said
