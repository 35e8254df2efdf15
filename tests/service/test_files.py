"""The pages about files and time, over HTTP: in use and back, over a restart, and what came in day by day."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from contracts.files import sha256_of_file
from export.scoring.model import ScoringModel, load_model
from export.scoring.watch.reference import METADATA_KEY, Quantity, WatchReference, reference_of
from service.answers import Answers
from service.applying import ApplyFolder
from service.overtime import over_time
from service.records import Scored, now
from service.web.drawing import bars, evidence, share_chart
from tests.service.browser import CLIPPED, CONTRAST, UNNAMED, Browser
from tests.service.serving import Server, pictures


def changed_file(source: Path, target: Path, half: float) -> Path:
    """The same file with another middle."""
    model = onnx.load(str(source))
    [constant] = [each for each in model.graph.initializer if each.name == "half"]
    constant.CopyFrom(numpy_helper.from_array(np.asarray(half, np.float32), "half"))
    onnx.save(model, str(target))
    return target


@pytest.fixture
def files_server(triage_model, tmp_path):
    started = Server(triage_model, tmp_path / "store")
    yield started
    started.stop()


def test_another_file_is_put_in_use_and_the_old_one_back(files_server, triage_model, tmp_path):
    server, old = files_server, sha256_of_file(triage_model)
    new_file = changed_file(triage_model, tmp_path / "new.onnx", 0.3)
    new = sha256_of_file(new_file)
    assert server.ask("GET", "/versions.json").json["in_use"] == old
    refused = server.ask("POST", "/versions/use", {"sha256": new})
    assert (refused.status, "is kept" in refused.json["error"]) == (400, True)

    ApplyFolder(server.store).versions.add(new_file, "test")
    picture = pictures(1, 9)[0]
    before = server.score(picture).json
    assert server.ask("POST", "/versions/use", {"sha256": new, "who": "Ada"}).json["in_use"] == new
    after = server.score(picture).json
    assert (before["model"], after["model"]) == (old, new)
    assert after["images"][0]["probability"] > before["images"][0]["probability"]

    # Killed and started with the file of before, the chosen one stays in use.
    server.kill()
    server.start()
    assert server.score(picture).json["model"] == new

    # A page that still shows the old file changes nothing.
    assert server.ask("POST", "/versions/back", {"leaving": old}).json["in_use"] == new
    assert server.ask("POST", "/versions/back", {"leaving": new, "who": "Bo"}).json["in_use"] == old
    assert server.score(picture).json["model"] == old
    refused = server.ask("POST", "/versions/back", {"leaving": old})
    assert (refused.status, "no way back" in refused.json["error"]) == (400, True)
    uses = server.ask("GET", "/versions.json").json["uses"]
    assert [(use["who"], use["action"]) for use in uses] == [("start", "use"), ("Ada", "use"), ("Bo", "back")]


def test_a_file_that_was_never_seen_is_taken_up_at_the_start(files_server, triage_model, tmp_path):
    server = files_server
    server.stop()
    server.model = changed_file(triage_model, tmp_path / "deployed.onnx", 0.3)
    server.start()
    journal = server.ask("GET", "/versions.json").json
    assert journal["in_use"] == sha256_of_file(server.model)
    assert journal["before"] == sha256_of_file(triage_model)


def test_without_a_run_there_is_nothing_to_teach(files_server):
    refused = files_server.ask("POST", "/apply", {})
    assert refused.status == 400
    assert "without --run" in refused.json["error"]
    assert files_server.ask("GET", "/apply").json["state"] == "none"
    assert files_server.ask("POST", "/apply/stop", {}).json == {"stopped": False}


@pytest.mark.parametrize("path", ["/apply", "/apply/stop", "/versions/use", "/versions/back"])
def test_changes_need_the_token_and_our_own_origin(server, path):
    assert server.ask("POST", path, {}, token=None).status == 401
    assert server.ask("POST", path, {}, Origin="http://evil.example").status == 403


def test_names_of_people_are_hostile_text(files_server, triage_model, tmp_path):
    new = ApplyFolder(files_server.store).versions.add(
        changed_file(triage_model, tmp_path / "new.onnx", 0.3), "test"
    )
    name = "<script>\0--who"
    halved = files_server.ask("POST", "/versions/use", {"sha256": new, "who": "\ud800"})
    assert halved.status == 400
    assert files_server.ask("POST", "/versions/use", {"sha256": new, "who": name}).status == 200
    assert files_server.ask("GET", "/versions.json").json["uses"][-1]["who"] == "<script>--who"
    shown = files_server.ask("GET", "/versions").body.decode()
    assert "&lt;script&gt;--who" in shown
    assert "<script>--" not in shown


def test_a_digest_is_a_digest_and_no_path(server):
    for sha256 in ("../../etc/passwd", "x" * 64, "a" * 63, ""):
        assert server.ask("POST", "/versions/use", {"sha256": sha256}).status == 400


@pytest.mark.parametrize("dark", [False, True])
def test_the_pages_have_contrast_names_and_no_clipped_text(files_server, tmp_path, dark):
    files_server.score(*pictures(12), camera="lot <b>1</b>")
    browser = Browser(tmp_path, dark=dark)
    try:
        browser.open(files_server.url)
        for path in ("/versions", "/time"):
            browser.open(f"http://{files_server.host}{path}")
            for width in (1280, 390):
                browser.window(width, 900, dark)
                assert browser.run(CONTRAST) == []
                assert browser.run(CLIPPED) == []
                assert browser.run(UNNAMED) == []
        assert browser.run("document.body.innerText").count("lot <b>1</b>") <= 1  # text, never markup
        assert not [each for each in browser.errors if "favicon" not in each]
    finally:
        browser.close()


# ---- over time


def plain_model(triage_model: Path) -> ScoringModel:
    """The file, which keeps nothing of training."""
    model = load_model(triage_model, at_first_run=True)
    assert reference_of(model.document) is None
    return model


def watched_model(triage_model: Path, usual: np.ndarray) -> ScoringModel:
    """The same as if its members had given these scores in training."""
    none = np.zeros(len(usual), np.int64)
    quantities = [Quantity.fit(f"score_{name}", name, usual, none, 1, 0.05) for name in ("bright", "red")]
    # Never seen by the store, so it must not be missed.
    quantities.append(Quantity.fit("sharpness", "sharpness", usual, none, 1, 0.05))
    reference = WatchReference(tuple(quantities), "dark", "light", (1.0,), None, "too few labels.")
    model = plain_model(triage_model)
    return replace(model, document={**model.document, METADATA_KEY: reference.to_json()})


def filled(folder: Path, digest: str, days: int = 3, per_day: int = 30) -> Answers:
    answers = Answers(folder / "answers.sqlite")
    rng = np.random.default_rng(3)
    rows, told = [], []
    for day in range(days):
        for number in range(per_day):
            image = answers.keep(bytes([day, number]), name=f"{number}.png", source="http", when=now())
            p = float(rng.uniform(0.02, 0.98))
            when = f"2026-11-{20 + day:02}T08:00:{number:02}.000000+00:00"
            decision = "light" if p >= 0.5 else "dark"
            rows.append(
                Scored(
                    image, digest, when, "http", f"lot {number % 2}", decision, "PASS", p, 0.5, 0.5,
                    members={"bright": p, "red": p},
                )
            )  # fmt: skip
            told.append((image, rng.random() < p))
    answers.add_scores(rows)
    for number, (image, is_minority) in enumerate(told):
        answers.add(
            image, "minority" if is_minority else "normal", who="Ada", when=now(), token=f"token {number}"
        )
    return answers


def test_days_cameras_answers_and_calibration(triage_model, tmp_path, monkeypatch):
    monkeypatch.setattr("service.overtime.DAYS", 36500)
    model, digest = plain_model(triage_model), "a" * 64
    answers = filled(tmp_path, digest)
    found = over_time(answers, model, digest)
    assert [day.images for day in found.days[:3]] == [30, 30, 30]
    assert found.cameras == ["lot 0", "lot 1"]
    assert sum(sum(day.answers.values()) for day in found.days) == 90
    assert found.calibration is not None
    assert (found.calibration.answers, found.calibration.first_alarm) == (90, None)
    assert "keeps nothing of training" in found.no_watch

    of_one = over_time(answers, model, digest, "lot 1")
    assert [day.images for day in of_one.days[:3]] == [15, 15, 15]
    assert of_one.answered == 45
    # What another file said does not judge this one.
    assert over_time(answers, model, "b" * 64).answered == 0


def test_answers_given_before_a_score_do_not_judge_it(triage_model, tmp_path, monkeypatch):
    """It may be of a file that was taught with them."""
    monkeypatch.setattr("service.overtime.DAYS", 36500)
    digest = "a" * 64
    answers = filled(tmp_path, digest)
    with sqlite3.connect(answers.path) as store:
        store.execute("UPDATE scored SET at = '2099-01-01T00:00:00+00:00'")
    assert over_time(answers, plain_model(triage_model), digest).answered == 0


def test_drift_of_scores_is_found_day_by_day(triage_model, tmp_path, monkeypatch):
    monkeypatch.setattr("service.overtime.DAYS", 36500)
    usual = np.random.default_rng(5).uniform(0.02, 0.98, 600)
    model, digest = watched_model(triage_model, usual), "a" * 64
    answers = filled(tmp_path, digest, days=2, per_day=60)
    with sqlite3.connect(answers.path) as store:
        # On the second day every score lies far above whatever training knew.
        store.execute(
            "UPDATE scored SET members = '{\"bright\": 3.0, \"red\": 3.0}' WHERE at >= '2026-11-21'"
        )
    first, second = over_time(answers, model, digest).days[:2]
    assert first.watch is not None
    assert second.watch is not None
    assert (first.watch.alarm, second.watch.alarm) == (False, True)
    assert {change.name for change in second.watch.alarms} >= {"score_bright"}


def test_charts_are_drawn_with_hostile_names_as_text():
    days = ["2026-11-20", "2026-11-21"]
    chart = bars(days, [(1, 2), (0, 5)], ("minority-fill", "normal-fill"), 'a "label" <b>')
    assert "<b>" not in chart
    assert chart.count("<rect") == 3
    assert share_chart(days, [(0.1, 0.05, 0.2), None], "shares").count("<circle") == 1
    assert "polyline" in evidence([0.0, 1.0], [0.0, 0.0], 2.0, "evidence")
