"""Seconds and memory of ``check`` on very many small files: ``python -m benchmarks.check --files 50000``.

The files are JPEGs of 64 to 128 pixels, all different but for a known number of equal and re-encoded
copies, which the check must find; so speed is not bought by looking away.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

_EQUAL, _NEAR = 50, 50


def write_files(folder: Path, count: int, seed: int = 0) -> None:
    """Write ``count`` files in two classes 1:20, the last hundred copies of the first."""
    rng = np.random.default_rng(seed)
    first: list[bytes] = []
    for number in range(count):
        label = "odd" if number % 21 == 0 else "fine"
        place = folder / label
        place.mkdir(parents=True, exist_ok=True)
        if number >= count - _EQUAL - _NEAR:
            content = first[number - count + _EQUAL + _NEAR]
            if number >= count - _NEAR:
                content = encoded(Image.open(io.BytesIO(content)), 60)
        else:
            side = int(rng.integers(64, 129))
            coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
            content = encoded(coarse.resize((side, side), Image.Resampling.BICUBIC), 85)
        if len(first) < _EQUAL + _NEAR:
            first.append(content)
        (place / f"{number:06d}.jpg").write_bytes(content)


def encoded(image: Image.Image, quality: int) -> bytes:
    """A JPEG of an image."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def main() -> None:
    """Write the files, check them, print a JSON document, delete them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="Where the files are put; the system's place for such.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write_files(Path(folder) / "set", arguments.files)
        command = [sys.executable, "cli.py", "check", f"{folder}/set", "--minority", "odd"]
        command += ["--runs", f"{folder}/runs", "--json"]
        started = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            peak = _peak_while(process, process.stdout)
            document = json.loads(process.stdout.read())
        seconds = time.monotonic() - started
    found = Counter(each["kind"] for each in document["duplicates"]["sets"])
    print(json.dumps({"files": arguments.files, "seconds": round(seconds, 1), **peak, "copies_found": found}))


def _peak_while(process: subprocess.Popen[bytes], answer: IO[bytes]) -> dict[str, int]:
    """Most resident memory in MB of the command, of any worker, and of all at a time, sampled."""
    peak = {"parent_mb": 0, "worker_mb": 0, "tree_mb": 0}
    # The command has ended, or has begun to print its document.
    while process.poll() is None and not select.select([answer], [], [], 0)[0]:
        now = 0
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except OSError:
                continue
            pid, parent, size, resident = (
                int(match.group(1)) if (match := re.search(rf"^{key}:\s+(\d+)", text, re.MULTILINE)) else 0
                for key in ("Pid", "PPid", "VmHWM", "VmRSS")
            )
            role = "parent_mb" if pid == process.pid else "worker_mb" if parent == process.pid else ""
            if role:
                peak[role] = max(peak[role], size // 1024)
                now += resident // 1024
        peak["tree_mb"] = max(peak["tree_mb"], now)
        time.sleep(0.2)
    return peak


if __name__ == "__main__":
    main()
