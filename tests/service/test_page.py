"""The page in a real browser: drop, answer by keys, kill the server, go on; and how it looks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from service.answers import Answers
from tests.hostile_corpus import HOSTILE_NAMES
from tests.service.browser import CLIPPED, CONTRAST, UNNAMED, Browser
from tests.service.serving import Server, pictures


@pytest.fixture
def own_server(triage_model, tmp_path):
    server = Server(triage_model, tmp_path / "store")
    yield server
    server.stop()


@pytest.fixture
def browser(tmp_path):
    opened = Browser(tmp_path)
    yield opened
    opened.close()


def files_of(folder: Path, number: int, first: int = 0) -> list[Path]:
    folder.mkdir(exist_ok=True)
    found = []
    for name, data in pictures(number, first):
        (folder / name).write_bytes(data)
        found.append(folder / name)
    return found


def shown(browser: Browser) -> str:
    return browser.wait("document.querySelector('.card')?.dataset.image")


def answer(browser: Browser, key: str) -> str:
    """Press a key and wait for the next image; the answered one."""
    image = shown(browser)
    browser.key(key)
    other = f"document.querySelector('.card')?.dataset.image !== '{image}'"
    browser.wait(f"document.querySelector('#card').innerText && {other}")
    return image


def test_drop_twenty_answer_ten_kill_start_again_nine_more(own_server, browser, tmp_path):
    browser.open(own_server.url)
    assert own_server.token not in browser.run("location.href")
    browser.drop(files_of(tmp_path / "parts", 20))
    browser.wait("document.getElementById('progress').textContent.startsWith('20 of 20 images scored')")
    said = {}
    for key in "nmunmnmnun":
        said[answer(browser, key)] = {"n": "normal", "m": "minority", "u": "unsure"}[key]
        # On disk before the next image shows: another process sees it now.
        store = Answers(own_server.store / "answers.sqlite")
        assert {entry.image: entry.answer for entry in store.current()} == said
        store.close()
    own_server.kill()
    before = shown(browser)
    browser.key("n")
    browser.wait("document.getElementById('notice').textContent.includes('Trying again')")
    assert shown(browser) == before, "the next image shows only once the answer is on disk"
    own_server.start()
    browser.wait(f"document.querySelector('.card')?.dataset.image !== '{before}'")
    said[before] = "normal"
    for key in "nmnmnmnm":
        said[answer(browser, key)] = {"n": "normal", "m": "minority"}[key]
    store = Answers(own_server.store / "answers.sqlite")
    assert {entry.image: entry.answer for entry in store.current()} == said
    assert len(store.history()) == len(said) == 19
    store.close()
    assert browser.run("document.getElementById('waiting').textContent").startswith("1 image waits.")
    assert [text for text in browser.errors if "net::ERR_" not in text] == []


def test_kind_skip_undo_and_who(own_server, browser, tmp_path):
    browser.open(own_server.url)
    browser.run("document.getElementById('who').value = 'Ada'")
    browser.drop(files_of(tmp_path / "parts", 4))
    browser.wait("document.getElementById('progress').textContent.startsWith('4 of 4')")
    first = shown(browser)
    browser.key("k")
    browser.wait("document.activeElement.id === 'kind'")
    browser.type("hair crack")
    browser.key("Enter")
    browser.wait(f"document.querySelector('.card').dataset.image !== '{first}'")
    skipped = answer(browser, "s")
    [entry, skip] = own_server.ask("GET", "/answers").json["answers"]
    assert (entry["answer"], entry["kind"], entry["who"]) == ("minority", "hair crack", "Ada")
    assert (skip["image"], skip["answer"]) == (skipped, "skip")
    browser.key("z")
    browser.wait(f"document.querySelector('.card').dataset.image === '{skipped}'")
    browser.key("z")
    browser.wait(f"document.querySelector('.card').dataset.image === '{first}'")
    browser.wait("document.getElementById('waiting').textContent.startsWith('4 images wait')")
    assert own_server.ask("GET", "/answers").json["answers"] == []
    history = own_server.ask("GET", "/answers?history=true").json["answers"]
    assert [each["answer"] for each in history] == ["minority", "skip", "undo", "undo"]


def test_two_tabs_at_one_image(own_server, browser, tmp_path):
    browser.open(own_server.url)
    browser.drop(files_of(tmp_path / "parts", 3))
    browser.wait("document.getElementById('progress').textContent.startsWith('3 of 3')")
    image = shown(browser)
    other = {"image": image, "answer": "minority", "who": "Bob", "token": "the other tab", "seen": None}
    assert own_server.ask("POST", "/answers", other).status == 200
    browser.key("n")
    browser.wait("document.getElementById('notice').textContent.includes('by Bob since you looked')")
    browser.wait("document.querySelector('.standing')?.textContent.includes('Bob')")
    answer(browser, "n")
    history = own_server.ask("GET", "/answers?history=true").json["answers"]
    assert [(each["answer"], each["who"]) for each in history] == [("minority", "Bob"), ("normal", "")]


def test_one_key_pressed_many_times_answers_one_image(own_server, browser, tmp_path):
    browser.open(own_server.url)
    browser.drop(files_of(tmp_path / "parts", 6))
    browser.wait("document.getElementById('progress').textContent.startsWith('6 of 6')")
    image = shown(browser)
    browser.run("for (let i = 0; i < 20; i++) dispatchEvent(new KeyboardEvent('keydown', {key: 'n'}))")
    browser.wait(f"document.querySelector('.card').dataset.image !== '{image}'")
    time.sleep(0.5)
    assert [each["image"] for each in own_server.ask("GET", "/answers").json["answers"]] == [image]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_how_pages_look(server, browser, tmp_path, width, dark):
    if not server.ask("GET", "/queue").json["waiting"]:
        names = [(name, pictures(1, 100 + n)[0][1]) for n, name in enumerate(HOSTILE_NAMES)]
        server.score(*names, *pictures(12), **{"from": "page", "camera": "line 2"})
    browser.window(width, 900, dark)
    browser.open(server.url)
    browser.wait("document.querySelector('.card .picture')?.complete")
    digest = shown(browser)
    for path in ("/", "/images", f"/images/{digest}", "/images?triage=NOVEL"):
        browser.open(f"http://{server.host}{path}")
        if path == "/":
            browser.wait("document.querySelector('.card .heat')?.complete")
        for check in (CONTRAST, CLIPPED, UNNAMED):
            assert browser.run(check) == [], path
        assert browser.run("document.documentElement.lang") == "en"
        assert browser.run("document.querySelectorAll('h1').length") == 1
    assert browser.errors == []


def test_everything_can_be_reached_by_tab(server, browser):
    if not server.ask("GET", "/queue").json["waiting"]:
        server.score(*pictures(4), **{"from": "page"})
    browser.open(server.url)
    shown(browser)
    reached = set()
    for _ in range(40):
        browser.do("Input.dispatchKeyEvent", type="keyDown", key="Tab", windowsVirtualKeyCode=9)
        browser.do("Input.dispatchKeyEvent", type="keyUp", key="Tab", windowsVirtualKeyCode=9)
        reached.add(browser.run("document.activeElement.id || document.activeElement.dataset.answer"))
    assert {"files", "folder", "who", "normal", "minority", "kind", "unsure", "skip"} <= reached
