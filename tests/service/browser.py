"""A real browser driven by a test: Chromium's own protocol over two pipes, no package needed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pages import CHROMIUM


class Browser:
    """One tab of a headless Chromium with a profile of its own."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        if CHROMIUM is None:
            pytest.skip("no chromium or google-chrome on the PATH")
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()

        def as_three_and_four() -> None:
            # Chromium reads commands from descriptor 3 and answers on 4.
            reading, writing = os.dup(to_browser), os.dup(from_browser)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self._process = subprocess.Popen(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", "--remote-debugging-pipe", "--hide-scrollbars",
                f"--user-data-dir={folder / 'profile'}", "about:blank",
            ],
            close_fds=False, preexec_fn=as_three_and_four,  # noqa: PLW1509
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.do(f"{domain}.enable")
        self.window(width, height, dark)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def window(self, width: int, height: int, dark: bool = False) -> None:
        self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip
        scheme = "dark" if dark else "light"
        self.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; what the page logs meanwhile is kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        first, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(first)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"])[:500])
        if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"] + " " + parameters["entry"].get("url", ""))

    def open(self, url: str) -> None:
        self.do("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        result = self.do("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 60.0) -> Any:
        """Wait until an expression is true; its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                found = self.run(expression)
            except AssertionError:  # the page is being replaced
                found = None
            if found:
                return found
            time.sleep(0.05)
        shown = self.run("document.body.innerText")
        pytest.fail(f"never true: {expression}\nerrors: {self.errors}\nthe page says:\n{shown[:2000]}")

    def key(self, letter: str) -> None:
        code = {"key": letter, "text": letter} if len(letter) == 1 else {"key": letter}
        if letter == "Enter":
            code |= {"text": "\r", "windowsVirtualKeyCode": 13}
        self.do("Input.dispatchKeyEvent", type="keyDown", **code)
        self.do("Input.dispatchKeyEvent", type="keyUp", key=letter)

    def type(self, text: str) -> None:
        self.do("Input.insertText", text=text)

    def drop(self, files: list[Path], x: int = 200, y: int = 120) -> None:
        """Drop files from outside onto the page."""
        data = {"items": [], "files": [str(path) for path in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.do("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        shot = self.do("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))


CONTRAST = """
(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const over = (top, under) => {
    const alpha = top[3] ?? 1;
    return [0, 1, 2].map((i) => top[i] * alpha + under[i] * (1 - alpha));
  };
  const background = (element) => {
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(parse(getComputedStyle(e).backgroundColor));
    return chain.reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const light = (rgb) => {
    const linear = (v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((v) => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), low = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const hidden = element.closest(".visually-hidden, [hidden], datalist, .skip-link, :disabled");
    if (!walker.currentNode.data.trim() || hidden || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), under = background(element);
    const [a, b] = [light(over(parse(style.color), under)), light(under)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
    const needed = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const text = walker.currentNode.data.trim().slice(0, 40);
    if (ratio < needed) low.push(`${ratio.toFixed(2)} < ${needed}: ${text}`);
  }
  return low;
})()
"""
"""Texts whose contrast is below WCAG 2.2 AA, by the colours that the browser computed."""

CLIPPED = """
(() => {
  const edge = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > edge) found.push("the page scrolls sideways");
  for (const e of document.body.querySelectorAll("*")) {
    if (e.closest(".visually-hidden, [hidden], .skip-link, input, datalist, svg")) continue;
    const box = e.getBoundingClientRect();
    const name = `${e.tagName}.${e.className}`;
    if (box.width && (box.right > edge + 1 || box.left < -1)) found.push(`${name} beyond the edge`);
    const hides = ["hidden", "clip"].includes(getComputedStyle(e).overflowX);
    if (hides && e.scrollWidth > e.clientWidth + 1) found.push(`${name} cuts its text`);
  }
  return found;
})()
"""
"""Elements that reach beyond the window or cut their text."""

UNNAMED = """
[...document.querySelectorAll("button, a, input, img, section")].filter((e) => {
  if (e.closest("[hidden]")) return false;
  if (e.tagName === "IMG") return !e.hasAttribute("alt");
  if (e.tagName === "INPUT") return !(e.labels?.length || e.ariaLabel);
  if (e.tagName === "SECTION") return !e.ariaLabel;
  return !(e.textContent.trim() || e.ariaLabel);
}).map((e) => e.outerHTML.slice(0, 80))
"""
"""What a screen reader could not name."""
