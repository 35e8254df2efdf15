"""Tells another program of each FAIL and NOVEL, without ever making scoring wait.

Messages wait in a queue of bounded length; a thread posts one after another as JSON and tries each several
times, ever more slowly. What is not delivered then, or does not fit into the queue, is counted and logged.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from contracts.errors import UsageError
from service.metrics import Metrics

_LONGEST_QUEUE = 1000
_TIMEOUT_S = 5.0
_PAUSES_S = (1.0, 5.0, 25.0, 120.0)

_log = logging.getLogger("outnumbered.service")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead to any machine; the message goes where it was told to, or nowhere."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


class Webhook:
    """Posts messages to one address.

    Args:
        url: http or https.
        metrics: where outcomes are counted.
        pauses_s: seconds to wait before each further try.

    Raises:
        UsageError: no such address.
    """

    def __init__(self, url: str, metrics: Metrics, pauses_s: tuple[float, ...] = _PAUSES_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--webhook {url}: give an address that begins with http:// or https://.")
        self._url, self._metrics, self._pauses_s = url, metrics, pauses_s
        self._queue: queue.Queue[bytes] = queue.Queue(_LONGEST_QUEUE)
        self._stopped = threading.Event()
        # No proxy of the environment: the address is meant as it stands.
        self._opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to post."""
        self._thread.start()

    def stop(self) -> None:
        """Post nothing any more."""
        self._stopped.set()

    @property
    def waiting(self) -> int:
        """Messages in the queue."""
        return self._queue.qsize()

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message; returns at once, whatever the other side does."""
        try:
            self._queue.put_nowait(json.dumps(message).encode())
        except queue.Full:
            self._metrics.add("webhook", outcome="dropped")
            _log.warning("webhook: %d messages wait already; one was dropped", _LONGEST_QUEUE)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                body = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            self._deliver(body)

    def _deliver(self, body: bytes) -> None:
        for pause in (*self._pauses_s, None):
            problem = self._post(body)
            if problem is None:
                self._metrics.add("webhook", outcome="delivered")
                return
            _log.warning("webhook: %s", problem)
            if pause is not None and self._stopped.wait(pause):
                return
        self._metrics.add("webhook", outcome="failed")

    def _post(self, body: bytes) -> str | None:
        """Post once; the problem, or None."""
        request = urllib.request.Request(
            self._url, body, {"Content-Type": "application/json", "User-Agent": "outnumbered"}
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                response.read(1024)
        except (urllib.error.URLError, OSError, ValueError) as error:
            return str(error)
        return None
