"""``python -m benchmarks serve`` finds no wrong answer, and says what it saw."""

from __future__ import annotations

from tests.conftest import run_benchmark
from tests.fixtures_onnx import write_two_class_model
from tests.service.serving import pictures


def test_a_short_load(tmp_path):
    model = write_two_class_model(tmp_path / "bright.onnx", with_triage=True, with_map=True)
    folder = tmp_path / "images"
    folder.mkdir()
    for name, data in pictures(8):
        (folder / name).write_bytes(data)
    markdown = tmp_path / "serve.md"
    options = ("--seconds", 3, "--clients", 4, "--processes", 1, "--markdown", markdown, "--json")
    done = run_benchmark("serve", model, folder, *options)
    assert done.code == 0, done.err
    text = markdown.read_text()
    assert "| wrong answers | 0 |" in text
    assert "200" in text
