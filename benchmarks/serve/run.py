"""Clients on loopback, each with one image per request, for a stated time; then the batch scorer.

Every answer is compared with what the embeddable scorer says of the same file, and every hostile file must be
answered with a reason. A refusal by load (429, 503) is sent again after the time that it states.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import family_memory_mb
from contracts.errors import DataError, ModelError
from contracts.files import write_text
from export.scorer import ImageScore, Scorer
from imagedata.decoding.formats import IMAGE_SUFFIXES
from reporting.terminal import console

_HOSTILE_SHARE = 0.15
_TOLERANCE = 1e-4
_WARM_UP_S = 10.0
_ROUNDS = 2

_BOUNDARY = "boundary-of-the-benchmark"


@dataclass(frozen=True)
class ServeBench:
    """What is measured; see the command."""

    model: Path
    images: Path
    seconds: float = 60.0
    clients: int = 32
    most: int = 300
    processes: int = 2
    markdown: Path | None = None


@dataclass
class Load:
    """What the clients saw.

    Attributes:
        seconds_of_good: from request to answer, refusals and their waits included.
        statuses: how many answers of each status.
        wrong: sentences about answers that are not what they must be.
    """

    seconds_of_good: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    hostile: int = 0


def bench_serve(bench: ServeBench) -> dict[str, Any]:
    """Measure; see the command.

    Returns:
        The figures, as on the page.

    Raises:
        DataError: no image in the folder.
    """
    files = sorted(path for path in bench.images.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    files = files[:: max(1, len(files) // bench.most)][: bench.most]
    if not files:
        raise DataError(f"{bench.images}: no image in it. Name a folder of images.")
    right = {score.name: score for score in Scorer(bench.model, maps=False).score_files(files)}
    good = [(path, path.read_bytes()) for path in files]
    with tempfile.TemporaryDirectory() as folder:
        batch = [_batch(bench, files, Path(folder) / "batch-before")]
        load, memory = _served(bench, good, right, Path(folder) / "store")
        batch += [_batch(bench, files, Path(folder) / f"batch-{n}") for n in range(1, _ROUNDS)]
    per_second = len(load.seconds_of_good) / bench.seconds
    p50, p95, p99 = (float(value) for value in np.percentile(load.seconds_of_good, [50, 95, 99]))
    document = {
        "model": bench.model.name,
        "clients": bench.clients,
        "seconds": bench.seconds,
        "processes": bench.processes,
        "images": len(files),
        "scored": len(load.seconds_of_good),
        "hostile": load.hostile,
        "wrong": load.wrong[:10],
        "statuses": {str(status): count for status, count in sorted(load.statuses.items())},
        "p50_s": round(p50, 3),
        "p95_s": round(p95, 3),
        "p99_s": round(p99, 3),
        "images_per_s": round(per_second, 2),
        "batch_images_per_s": [round(value, 2) for value in batch],
        "ratio": round(per_second / float(np.mean(batch)), 3),
        "memory_start_mb": round(memory[0]),
        "memory_end_mb": round(memory[1]),
    }
    console.print(page(document), markup=False, highlight=False, soft_wrap=True)
    if bench.markdown is not None:
        write_text(bench.markdown, page(document))
    return document


def _batch(bench: ServeBench, files: list[Path], output: Path) -> float:
    """Images per second of the batch scorer on the same files, without the start of its processes."""
    one = _batch_seconds(bench, files[:1], output.with_name(f"{output.name}-one"))
    return (len(files) - 1) / max(_batch_seconds(bench, files, output) - one, 1e-9)


def _batch_seconds(bench: ServeBench, files: list[Path], output: Path) -> float:
    names = output.with_suffix(".txt")
    write_text(names, "".join(f"{path.resolve()}\n" for path in files))
    started = time.monotonic()
    command = [
        sys.executable, "cli.py", "score", str(bench.model), "--list", str(names), "--output", str(output),
        "--processes", str(bench.processes),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def _served(
    bench: ServeBench, good: list[tuple[Path, bytes]], right: dict[str, ImageScore], store: Path
) -> tuple[Load, tuple[float, float]]:
    """What the clients saw, and megabytes of the service with its workers, warm and at the end."""
    command = [
        sys.executable, "cli.py", "serve", str(bench.model), "--store", str(store), "--port", "0",
        "--processes", str(bench.processes), "--keep", "none",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stderr is not None
            found = re.search(r"http://[^:]+:(\d+)/\?token=(\S+)", server.stderr.readline())
            if found is None:
                raise ModelError(f"the service did not start: {server.stderr.read()}")
            port, token = int(found[1]), found[2]
            hostile = _hostile(good[0][1])
            _send(bench, port, token, good, hostile, right, _WARM_UP_S)
            start = family_memory_mb(server.pid)
            load = _send(bench, port, token, good, hostile, right, bench.seconds)
            return load, (start, family_memory_mb(server.pid))
        finally:
            server.terminate()


def _hostile(picture: bytes) -> list[tuple[str, bytes]]:
    """Files that no scorer takes, and names that no page should believe."""
    # A header of 2 gigapixels; its checksum is right, so that it is read.
    bomb = (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\xc3P\x00\x00\x9c@\x08\x02\x00\x00\x00\xc7\xec\xc3\xc8"
    )
    return [
        ("empty.png", b""),
        ("half.png", picture[: len(picture) // 2]),
        ("text.png", b"hello" * 100),
        ("<script>alert(1)</script>.png", b"\xff\xd8\xff" + bytes(2000)),
        ("../../../../tmp/bomb.png", bomb),
        ("zeros.tif", b"II*\x00" + bytes(4000)),
    ]


def _send(
    bench: ServeBench,
    port: int,
    token: str,
    good: list[tuple[Path, bytes]],
    hostile: list[tuple[str, bytes]],
    right: dict[str, ImageScore],
    seconds: float,
) -> Load:
    load, lock = Load(), threading.Lock()
    end = time.monotonic() + seconds

    def client(seed: int) -> None:
        chance = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.monotonic() < end:
            is_good = chance.random() >= _HOSTILE_SHARE
            path, data = chance.choice(good)
            name, data = (str(path), data) if is_good else chance.choice(hostile)
            started = time.monotonic()
            answer = _answer(connection, token, name, data, load, lock)
            took = time.monotonic() - started
            with lock:
                problem = _problem(answer, right[name] if is_good else None)
                if problem:
                    load.wrong.append(f"{name}: {problem}")
                elif is_good and time.monotonic() <= end:
                    load.seconds_of_good.append(took)
                load.hostile += not is_good
        connection.close()

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(bench.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def _answer(
    connection: http.client.HTTPConnection,
    token: str,
    name: str,
    data: bytes,
    load: Load,
    lock: threading.Lock,
) -> tuple[int, Any]:
    """Send one file until it is answered; status and document."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
    }
    while True:
        connection.request("POST", "/score", body, headers)
        response = connection.getresponse()
        text = response.read()
        with lock:
            load.statuses[response.status] += 1
        if response.status not in (429, 503):
            return response.status, json.loads(text)
        time.sleep(float(response.headers["Retry-After"]))


def _problem(answer: tuple[int, Any], right: ImageScore | None) -> str | None:
    """Why an answer is wrong; None where it is right."""
    status, document = answer
    if status != 200:
        return f"status {status}"
    [image] = document["images"]
    if right is None or right.error is not None:
        return None if image["status"] == "failed" and image["error"] else "a hostile file was scored"
    if image["status"] != "ok" or image["decision"] != right.decision or image["triage"] != right.triage:
        return f"answered {image['status']} {image['decision']} {image['triage']}"
    for name, value in (("probability", right.probability), ("p_normal", right.p_normal)):
        if value is not None and abs(image[name] - value) > _TOLERANCE:
            return f"{name} {image[name]} instead of {value}"
    return None


def page(document: dict[str, Any]) -> str:
    """The figures as Markdown."""
    statuses = ", ".join(f"{count:,} x {status}" for status, count in document["statuses"].items())
    batch = " and ".join(f"{value:g}" for value in document["batch_images_per_s"])
    wrong = "; ".join(document["wrong"])
    latency = " / ".join(str(document[name]) for name in ("p50_s", "p95_s", "p99_s"))
    memory = f"{document['memory_start_mb']} / {document['memory_end_mb']} MB"
    rows = {
        "images scored": f"{document['scored']:,}, of {document['images']} different files",
        "hostile files answered with a reason": f"{document['hostile']:,}",
        "wrong answers": f"{len(document['wrong'])} or more: {wrong}" if wrong else "0",
        "answers by status": statuses,
        "seconds from request to answer, p50 / p95 / p99": latency,
        "images per second": f"{document['images_per_s']:g}, in {document['processes']} processes",
        "batch scorer on the same files, before and after": f"{batch} images per second",
        "ratio": str(document["ratio"]),
        "memory of service and workers, warm / at the end": memory,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""# The service under load

{document["clients"]} clients on loopback, one image per request, for {document["seconds"]:g} s. About one
request in seven holds a hostile file: empty, cut off, text, a damaged JPEG, a header of 2 gigapixels, a TIFF
of zeros, names with paths and HTML. Every answer is compared with that of the embeddable scorer. Clients and
service share the processors; hostile files are not counted as images. The batch scorer's rate is without the
start of its processes.

Made by `python -m benchmarks serve MODEL FOLDER --seconds {document["seconds"]:g}`.

| | |
|---|---|
{table}
"""
