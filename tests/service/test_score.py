"""``POST /score`` says what the batch scorer says, whatever comes along with it."""

from __future__ import annotations

import base64
import http.server
import io
import json
import threading
import time
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from export.scorer import Scorer
from tests.fixtures_onnx import write_normal_only_model, write_three_class_model
from tests.hostile import encode
from tests.service.serving import Server, pictures


def expected(model, files):
    return list(Scorer(model).score_bytes(files))


def test_files_as_a_form(server, triage_model):
    files = pictures(20)
    images = server.score(*files).json["images"]
    for image, right, (name, _) in zip(images, expected(triage_model, files), files, strict=True):
        assert image["name"] == name
        assert image["probability"] == pytest.approx(right.probability, abs=1e-6)
        assert image["p_normal"] == pytest.approx(right.p_normal, abs=1e-6)
        assert (image["decision"], image["triage"]) == (right.decision, right.triage)
        assert list(image["member_scores"].values()) == pytest.approx(list(right.member_scores), abs=1e-6)


def test_json_with_files_and_arrays(server, triage_model):
    [(name, data)] = pictures(1, 3)
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    sent = [
        {"name": name, "data": base64.b64encode(data).decode()},
        {"name": "array", "pixels": base64.b64encode(pixels.tobytes()).decode(), "shape": pixels.shape},
    ]
    answer = server.ask("POST", "/score", {"images": sent, "camera": "line 2"})
    [right] = expected(triage_model, [(name, data)])
    assert [image["probability"] for image in answer.json["images"]] == [pytest.approx(right.probability)] * 2


def test_a_broken_image_harms_none_beside_it(server, triage_model):
    [good] = pictures(1, 5)
    files = [
        ("empty.png", b""),
        good,
        ("text.png", b"hello"),
        ("half.jpg", encode(np.zeros((64, 64, 3), np.uint8), "JPEG")[:200]),
    ]
    images = server.score(*files).json["images"]
    assert [image["status"] for image in images] == ["failed", "ok", "failed", "failed"]
    assert all(image["error"] for image in images if image["status"] == "failed")
    assert images[1]["probability"] == pytest.approx(expected(triage_model, [good])[0].probability)


@pytest.mark.parametrize("write", [write_normal_only_model, write_three_class_model])
def test_other_kinds_of_files(write, tmp_path):
    model = write(tmp_path / "other.onnx")
    server = Server(model, tmp_path / "store")
    try:
        files = pictures(6)
        images = server.score(*files, **{"from": "page"}).json["images"]
        for image, right in zip(images, expected(model, files), strict=True):
            assert image["decision"] == right.decision
            assert image["probability"] == (
                None if right.probability is None else pytest.approx(right.probability)
            )
        queue = server.ask("GET", "/queue").json
        assert queue["waiting"] == 6
        assert server.ask("GET", f"/images/{images[0]['image']}").status == 200
    finally:
        server.stop()


def test_openapi_says_what_there_is(server):
    document = server.ask("GET", "/openapi.json").json
    assert {"/score", "/health", "/metrics", "/answers", "/queue"} <= document["paths"].keys()
    kinds = document["paths"]["/score"]["post"]["requestBody"]["content"]
    assert kinds.keys() == {"multipart/form-data", "application/json"}


def test_metrics_count_images_decisions_and_time(server):
    text = server.ask("GET", "/metrics").body.decode()
    for line in (
        'outnumbered_images_total{status="ok"}',
        "outnumbered_scoring_seconds_count",
        "outnumbered_waiting_images",
    ):
        assert line in text


class Receiver(http.server.BaseHTTPRequestHandler):
    """Fails twice, then notes what it is told."""

    told: ClassVar[list[dict]] = []
    failures = 2

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if Receiver.failures:
            Receiver.failures -= 1
            self.send_error(500)
            return
        Receiver.told.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_webhook_is_told_of_fail_and_never_holds_scoring_up(triage_model, tmp_path):
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    server = Server(
        triage_model, tmp_path / "store", "--webhook", f"http://127.0.0.1:{receiver.server_port}/x"
    )
    try:
        started = time.monotonic()
        images = server.score(*pictures(20)).json["images"]
        assert time.monotonic() - started < 5
        failed = {image["image"] for image in images if image["triage"] == "FAIL"}
        assert failed
        end = time.monotonic() + 30
        while len(Receiver.told) < len(failed) and time.monotonic() < end:
            time.sleep(0.1)
        assert {each["image"] for each in Receiver.told} == failed
        assert len(Receiver.told) == len(failed)
        assert {each["triage"] for each in Receiver.told} == {"FAIL"}
    finally:
        server.stop()
        receiver.shutdown()
