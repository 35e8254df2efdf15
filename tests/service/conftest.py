"""A small file with triage and map, and a service around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures_onnx import write_two_class_model
from tests.service.serving import Server


@pytest.fixture(scope="session")
def triage_model(tmp_path_factory) -> Path:
    return write_two_class_model(
        tmp_path_factory.mktemp("model") / "bright.onnx", with_map=True, with_triage=True
    )


@pytest.fixture(scope="module")
def server(triage_model, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "watched").mkdir()
    started = Server(triage_model, folder / "store", "--watch", folder / "watched")
    yield started
    started.stop()
