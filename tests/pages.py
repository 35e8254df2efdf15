"""A report's page taken apart, and shown in a browser."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """Tags with their attributes, in order, and the text outside of style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_endtag(self, tag):
        self._in_style = False

    def handle_data(self, data):
        if not self._in_style:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def measure_in_browser(report: Path, folder: Path) -> dict[int, dict[str, str]]:
    """Width of the window → what a script that is not in the report measured of it there."""
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome on the PATH to show the page with")
    text = html.escape(report.read_text())
    # Frames stand for windows, since a headless window is never narrower than 500 pixels.
    frames = "".join(
        f'<iframe width="{width}" height="900" srcdoc="{text}"></iframe>' for width in (1280, 390)
    )
    script = """
      addEventListener("load", () => document.querySelectorAll("iframe").forEach(frame => {
        const page = frame.contentDocument, root = page.documentElement, edge = root.clientWidth;
        const out = [...page.body.querySelectorAll("*")].filter(e => !e.closest(".scroll, pre")
          && e.getBoundingClientRect().right > edge + 1).map(e => e.tagName);
        const dead = [...page.images].filter(i => !i.complete || !i.naturalWidth).length;
        const note = document.createElement("output");
        const found = [frame.width, root.scrollWidth, edge, out.length, dead, page.images.length];
        note.textContent = found.join(" ");
        document.body.append(note);
      }));
    """
    wrapper = folder / "wrapper.html"
    wrapper.write_text(f"<!DOCTYPE html><body>{frames}<script>{script}</script></body>")
    shown = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", "--dump-dom",
            wrapper.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    names = ("width", "scroll", "edge", "beyond", "dead", "images")
    found = re.findall(r"<output>([\d ]+)</output>", shown.stdout)
    return {int(line.split()[0]): dict(zip(names, line.split(), strict=True)) for line in found}
