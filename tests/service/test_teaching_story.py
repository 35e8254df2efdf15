"""In a real browser: answers are given by keys, applied, the new file put in use, and the old one back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from export.scoring.model import load_model
from tests.conftest import TINY_RECIPE, Outcome, Run
from tests.pictures import write_pictures
from tests.service.browser import CLIPPED, CONTRAST, UNNAMED, Browser
from tests.service.serving import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def browser(tmp_path):
    opened = Browser(tmp_path)
    yield opened
    opened.close()


def answer_by_keys(browser: Browser, count: int) -> None:
    """Answer the next images by what their names say, each by one key."""
    for _ in range(count):
        image = browser.wait("document.querySelector('.card')?.dataset.image")
        name = browser.run("document.querySelector('.card .name').textContent")
        browser.key("m" if name.strip().startswith("5") else "n")
        other = f"document.querySelector('.card')?.dataset.image !== '{image}'"
        browser.wait(f"document.querySelector('#card').innerText && {other}")


def apply(server: Server, browser: Browser) -> None:
    """Press the button and wait until the page shows what the new file would change."""
    browser.open(f"http://{server.host}/versions")
    browser.wait("!document.getElementById('apply').disabled")
    browser.run("document.getElementById('apply').click()")
    end = time.monotonic() + 500
    while server.ask("GET", "/apply").json["state"] not in ("finished", "failed"):
        assert time.monotonic() < end
        time.sleep(1.0)
    status = server.ask("GET", "/apply").json
    assert status["state"] == "finished", status
    browser.wait("document.querySelector('.use.primary') !== null")


def looks_right(browser: Browser) -> None:
    browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for width in (1280, 390):
        browser.window(width, 900)
        assert browser.run(CONTRAST) == []
        # Long names make tables wide: those scroll by themselves, the page does not.
        assert browser.run(CLIPPED.replace("input, datalist", "input, .scroll, pre, datalist")) == []
        assert browser.run(UNNAMED) == []
    browser.window(1280, 900)


def test_drop_answer_kill_answer_apply_use_and_back(
    fitted: tuple[Run, Outcome], browser: Browser, tmp_path: Path
):
    run = fitted[0].copy(tmp_path)
    server = Server(run.folder / "model.onnx", tmp_path / "store", "--run", run.folder)
    try:
        parts = write_pictures(tmp_path / "parts", 12, odd=False, seed=61)
        parts += write_pictures(tmp_path / "parts", 8, odd=True, seed=62, start=500)
        browser.open(server.url)
        browser.drop(parts)
        browser.wait("document.getElementById('progress').textContent.startsWith('20 of 20 images scored')")
        answer_by_keys(browser, 10)
        server.kill()
        server.start()
        browser.open(f"http://{server.host}/")
        answer_by_keys(browser, 9)
        old = server.ask("GET", "/versions.json").json["in_use"]
        apply(server, browser)
        counts = server.ask("GET", "/apply").json["sentence"]
        assert counts.startswith("Of 19 answers, ")
        assert "On the test set" in browser.run("document.body.innerText")
        looks_right(browser)
        browser.run("document.querySelector('.use.primary').click()")
        browser.wait("document.body.innerText.includes('The new one is in use')")
        new = server.ask("GET", "/versions.json").json["in_use"]
        assert new != old
        assert server.score(("one.png", parts[0].read_bytes())).json["model"] == new
        browser.run("document.getElementById('back').click()")
        browser.wait("!document.body.innerText.includes('The new one is in use')")
        assert server.score(("one.png", parts[0].read_bytes())).json["model"] == old
    finally:
        server.stop()


def test_a_flat_folder_without_labels_comes_to_a_first_model_with_labels(
    trained: Run, browser: Browser, tmp_path: Path
):
    (tmp_path / "tiny.yaml").write_text(TINY_RECIPE)
    write_pictures(tmp_path / "parts", 24, odd=False, seed=0)
    write_pictures(tmp_path / "parts", 4, odd=True, seed=3, start=500)
    run = Run(tmp_path / "parts", tmp_path / "tiny.yaml", tmp_path / "runs")
    trained.give_traced_backbones(run.runs)
    for name in ("train-all", "ensemble"):
        outcome = run.command(name)
        assert outcome.code == 0, outcome.err
    server = Server(
        run.folder / "model.onnx", tmp_path / "store", "--run", run.folder, "--watch", run.dataset
    )
    try:
        assert not load_model(run.folder / "model.onnx", at_first_run=True).has_probability
        end = time.monotonic() + 120
        while server.ask("GET", "/queue").json["waiting"] < 28:
            assert time.monotonic() < end
            time.sleep(0.5)
        browser.open(server.url)
        answer_by_keys(browser, 27)
        apply(server, browser)
        looks_right(browser)
        browser.run("document.querySelector('.use.primary').click()")
        browser.wait("document.body.innerText.includes('The new one is in use')")
        said = server.score(("new.png", (run.dataset / "500.png").read_bytes())).json["images"][0]
        assert said["probability"] is not None
        assert said["triage"] is not None
    finally:
        server.stop()
