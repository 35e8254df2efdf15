"""A service as a process of its own, and requests to it, well-formed or not."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.house.source import ROOT


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """``cli.py serve`` on a free port; killed and started again at will."""

    def __init__(self, model: Path, store: Path, *options: object, port: int = 0) -> None:
        self.model, self.store, self.options = model, store, options
        self.port = port
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "cli.py", "serve", str(self.model), "--store", str(self.store),
                "--port", str(self.port), "--processes", "1", *map(str, self.options),
            ],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said: list[str] = []
        ready = threading.Event()

        def read() -> None:
            assert self.process.stderr is not None
            for line in self.process.stderr:
                self.said.append(line)
                if "Ctrl+C" in line:
                    ready.set()
            ready.set()

        threading.Thread(target=read, daemon=True).start()
        assert ready.wait(60)
        found = re.search(r"http://([^/\s]+?):(\d+)/\?token=(\S+)", "".join(self.said))
        assert found, "".join(self.said)
        self.port, self.token = int(found[2]), found[3]
        self.url = found[0]

    def kill(self) -> None:
        """``kill -9``."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> str:
        self.process.terminate()
        self.process.wait(timeout=30)
        return "".join(self.said)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        token: str | None = "",
        **headers: str,
    ) -> Answer:
        """A request with the right token, unless another or None is given; underscores are hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = f"Bearer {token or self.token}"
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body, given)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def score(self, *files: tuple[str, bytes], token: str | None = "", **fields: str) -> Answer:
        """Files as a browser's form sends them."""
        content_type, body = form(files, fields)
        return self.ask("POST", "/score", body, token=token, Content_Type=content_type)

    def raw(self, sent: bytes, seconds: float = 30.0) -> bytes:
        """Whatever the service answers to bytes that need not be HTTP, until it closes or time is up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(sent)
            got, end = b"", time.monotonic() + seconds
            while time.monotonic() < end:
                try:
                    part = connection.recv(1 << 16)
                except (TimeoutError, ConnectionError):
                    break
                if not part:
                    break
                got += part
            return got


def form(files: tuple[tuple[str, bytes], ...], fields: dict[str, str]) -> tuple[str, bytes]:
    boundary = uuid.uuid4().hex
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % (boundary.encode(), name.encode(), value.encode())
        for name, value in fields.items()
    ]
    parts += [
        b'--%b\r\nContent-Disposition: form-data; name="files"; filename="%b"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%b\r\n"
        % (boundary.encode(), name.replace('"', "%22").encode("utf-8", "surrogateescape"), data)
        for name, data in files
    ]
    return f"multipart/form-data; boundary={boundary}", b"".join(parts) + f"--{boundary}--\r\n".encode()


def pictures(number: int, first: int = 0) -> list[tuple[str, bytes]]:
    """Distinct pictures of all brightnesses, named in order; no two are near copies."""
    import numpy as np

    from tests.hostile import encode
    from tests.hostile_corpus import photo

    found = []
    for seed in range(first, first + number):
        level = (seed % 20) * 12 + 8
        pixels = np.clip(photo(seed, 64).astype(np.int16) // 3 + level - 40, 0, 255).astype(np.uint8)
        found.append((f"part {seed:03}.png", encode(pixels, "PNG")))
    return found
