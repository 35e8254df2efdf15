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
    """Width of the window → what a script that is not in the report measured of it there.

    ``beyond`` counts elements that reach beyond the window's right edge, and ``clipped`` names texts that
    stick out of the box they belong to, so that they are cut off or run into their neighbour.
    """
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
        const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT), clipped = [];
        while (walker.nextNode()) {
          const text = walker.currentNode, range = page.createRange();
          const box = text.parentElement.closest(
            "td, th, caption, figcaption, pre, p, li, a, h1, h2, h3, figure, section, header");
          if (!text.data.trim() || !box || box.tagName == "PRE") continue;  // a pre scrolls
          range.selectNodeContents(text);
          const around = box.getBoundingClientRect();
          const sticks = [...range.getClientRects()].some(r =>
            r.right > around.right + 1 || r.left < around.left - 1 || r.bottom > around.bottom + 2);
          if (sticks) clipped.push(box.tagName + ": " + text.data.trim().slice(0, 40));
        }
        const note = document.createElement("output");
        const found = [frame.width, root.scrollWidth, edge, out.length, dead, page.images.length];
        note.textContent = [found.join(" "), ...clipped].join("|");
        document.body.append(note);
      }));
    """
    wrapper = folder / "wrapper.html"
    wrapper.write_text(f"<!DOCTYPE html><body>{frames}<script>{script}</script></body>")
    shown = _chromium(folder, "--window-size=1400,1000", "--dump-dom", wrapper.as_uri())
    names = ("width", "scroll", "edge", "beyond", "dead", "images")
    found = [html.unescape(text) for text in re.findall(r"<output>(.*?)</output>", shown, re.DOTALL)]
    measured = {}
    for numbers, *clipped in (text.split("|") for text in found):
        values = dict(zip(names, numbers.split(), strict=True))
        measured[int(values["width"])] = {**values, "clipped": "; ".join(clipped)}
    return measured


def show_in_browser(report: Path, folder: Path, body: str) -> str:
    """What a function that is not in the report returns of it, run once it is loaded, with its scripts.

    Args:
        report: the page.
        folder: for files of the browser.
        body: of the function; knows the page's ``window``, and its document as ``page``.
    """
    script = f"""
      addEventListener("load", () => {{
        const window = document.querySelector("iframe").contentWindow, page = window.document;
        const found = (() => {{ {body} }})();
        const note = document.createElement("output");
        note.textContent = found;
        document.body.append(note);
      }});
    """
    wrapper = folder / "wrapper.html"
    frame = f'<iframe width="1280" height="900" srcdoc="{html.escape(report.read_text())}"></iframe>'
    wrapper.write_text(f"<!DOCTYPE html><body>{frame}<script>{script}</script></body>")
    [found] = re.findall(
        r"<output>(.*?)</output>", _chromium(folder, "--dump-dom", wrapper.as_uri()), re.DOTALL
    )
    return html.unescape(found)


def scale_in_print(report: Path, folder: Path) -> float:
    """How much smaller than asked for the browser prints a page; below 1 something is wider than the paper.

    Browsers shrink a page whose content is too wide, and cut off what is wider still.
    """
    reader = shutil.which("pdftotext")
    if reader is None:
        pytest.skip("no pdftotext on the PATH to read the printed page with")
    word = "Measuring"
    probe = f'<p style="font: 10pt monospace">{word}</p>'
    text, heights = report.read_text(), []
    alone = "<!DOCTYPE html><style>@page { size: A4 landscape; margin: 11mm; }</style><body>"
    for name, content in (("whole", text.replace("<body>", f"<body>{probe}", 1)), ("alone", alone + probe)):
        page, printed = folder / f"{name}.html", folder / f"{name}.pdf"
        page.write_text(content)
        _chromium(folder, f"--print-to-pdf={printed}", "--no-pdf-header-footer", page.as_uri())
        done = subprocess.run(
            [reader, "-l", "1", "-bbox", printed, "-"], capture_output=True, text=True, timeout=60, check=True
        )
        found = re.search(rf'yMin="(\S+)" xMax="\S+" yMax="(\S+)">{word}<', done.stdout)
        assert found is not None
        heights.append(float(found[2]) - float(found[1]))
    return heights[0] / heights[1]


def _chromium(folder: Path, *arguments: str) -> str:
    """What a headless browser with a profile of its own prints."""
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome on the PATH to show the page with")
    return subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={folder / 'profile'}", *arguments,
        ],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
