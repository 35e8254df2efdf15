"""A hub on this machine: the few answers of Hugging Face's that fetching a data set takes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub_of(name: str, files: Mapping[str, bytes], requests: list[str]) -> Iterator[str]:
    """Serve one data set of one revision, ``main``; yields the endpoint and notes what was asked for."""
    tree = [
        {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": path}
        for path, data in files.items()
    ]
    documents = {
        f"/api/datasets/{name}/revision/main": {"id": name, "sha": COMMIT, "private": False, "tags": []},
        f"/api/datasets/{name}/tree/{COMMIT}": tree,
    }
    contents = {f"/datasets/{name}/resolve/{COMMIT}/{path}": data for path, data in files.items()}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            requests.append(f"{self.command} {path}")
            if path in documents:
                self.answer(200, json.dumps(documents[path]).encode(), {"Content-Type": "application/json"})
            elif path in contents:
                etag = hashlib.sha1(contents[path]).hexdigest()
                self.answer(200, contents[path], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
            else:
                code = "RevisionNotFound" if f"/{name}/" in path else "RepoNotFound"
                self.answer(404, b"{}", {"X-Error-Code": code})

        do_HEAD = do_GET

        def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal of the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
