"""Stands before every route: who asks, from where, how much, how fast. Whatever gets past it is whole.

The body of a request is read here, within bounds of size and time, before any route runs; a slow or endless
upload never reaches one. All bodies together have a bound as well, beyond which requests get 503.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from service.limits import RETRY_AFTER_S, Limits
from service.metrics import Metrics
from service.web.access import Access

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_OPEN = ("/health",)
"""Paths that need no token: they say nothing."""

_OPEN_FOLDER = "/static/"
_SAFE_METHODS = ("GET", "HEAD")
_METHODS = (*_SAFE_METHODS, "POST")
_MOST_ADDRESSES = 10_000

_POLICY = (
    "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-frame-options": b"DENY",
}


class RefusedError(Exception):
    """A request that gets no further.

    Attributes:
        status: of HTTP.
        sentence: why, and what to do.
        retry_after: seconds, or None.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_after = status, sentence, retry_after


@dataclass
class _Bucket:
    """How many requests an address may make at this moment."""

    tokens: float
    at: float = field(default_factory=time.monotonic)

    def take(self, per_second: float, burst: float, cost: float = 1.0) -> bool:
        """Take from what has flowed in since; False where too little is there."""
        now = time.monotonic()
        self.tokens = min(burst, self.tokens + (now - self.at) * per_second)
        self.at = now
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True


class Guard:
    """ASGI middleware. See the module's docstring.

    Args:
        app: what it stands before.
        access: token and names.
        limits: sizes, times and rates.
        metrics: where statuses are counted.
    """

    def __init__(self, app: Any, access: Access, limits: Limits, metrics: Metrics) -> None:
        self._app, self._access, self._limits, self._metrics = app, access, limits, metrics
        self._requests = 0
        self._bytes = 0
        self._rates: dict[str, _Bucket] = {}
        self._wrong: dict[str, _Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a refusal."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = self._answering(send)
        if self._requests >= self._limits.requests:
            await self._refuse(RefusedError(503, "The service has too much to do.", RETRY_AFTER_S), answer)
            return
        self._requests += 1
        reserved = 0
        try:
            headers = _headers(scope)
            self._check(scope, headers)
            reserved = self._reserve(scope, headers)
            body = await self._body(receive) if scope["method"] == "POST" else b""
            await self._app(scope, _replayed(body, receive), answer)
        except RefusedError as refusal:
            await self._refuse(refusal, answer)
        finally:
            self._requests -= 1
            self._bytes -= reserved

    # ---- who asks

    def _check(self, scope: Scope, headers: dict[str, list[str]]) -> None:
        """Refuse whoever may not ask.

        Raises:
            RefusedError: too often, by a foreign name, from a foreign page, or without the token.
        """
        address = scope["client"][0] if scope.get("client") else ""
        if not _bucket(self._rates, address, self._limits.burst).take(
            self._limits.per_second, self._limits.burst
        ):
            raise RefusedError(429, "Too many requests from this address.", RETRY_AFTER_S)
        if scope["method"] not in _METHODS:
            raise RefusedError(405, f"{scope['method'][:10]} is not known here. Use GET or POST.")
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._access.is_own_host(hosts[0]):
            raise RefusedError(
                421, "This service is not known by that host name. Use the address it printed at its start."
            )
        origins = headers.get("origin", [])
        if any(not self._access.is_own_origin(origin, hosts[0]) for origin in origins):
            raise RefusedError(403, "This request came from a page of another origin.")
        site = headers.get("sec-fetch-site", ["none"])[0]
        is_navigation = headers.get("sec-fetch-mode", [""])[0] == "navigate" and scope["method"] == "GET"
        if site == "cross-site" and not is_navigation:
            raise RefusedError(403, "This request came from a page of another origin.")
        if scope["path"] not in _OPEN and not scope["path"].startswith(_OPEN_FOLDER):
            self._check_token(scope, headers, address, bool(origins))

    def _check_token(
        self, scope: Scope, headers: dict[str, list[str]], address: str, has_origin: bool
    ) -> None:
        bearer = headers.get("authorization", [""])[0]
        in_url = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        by_url = scope["path"] == "/" and scope["method"] == "GET" and bool(in_url)
        kind, _, given = bearer.partition(" ")
        if (kind.lower() == "bearer" and self._access.is_token(given.strip())) or (
            by_url and self._access.is_token(in_url)
        ):
            scope.setdefault("state", {})["by_url"] = by_url and not bearer
            return
        if not bearer and any(map(self._access.has_cookie, headers.get("cookie", []))):
            # A cookie comes along by itself, so whoever changes something must say where it comes from.
            if scope["method"] not in _SAFE_METHODS and not has_origin:
                raise RefusedError(403, "A request with the page's cookie must name its origin.")
            return
        per_minute = self._limits.wrong_tokens
        if not _bucket(self._wrong, address, per_minute).take(per_minute / 60.0, per_minute):
            raise RefusedError(429, "Too many wrong tokens from this address.", 60)
        raise RefusedError(
            401,
            "A token is needed. Open the address that the service printed at its start, or send "
            "'Authorization: Bearer TOKEN'.",
        )

    # ---- how much, how fast

    def _reserve(self, scope: Scope, headers: dict[str, list[str]]) -> int:
        """Set bytes aside for the body; how many."""
        if scope["method"] != "POST":
            return 0
        length = headers.get("content-length", [None])[0]
        most = self._limits.body_bytes
        stated = most if length is None else int(length)
        if stated > most:
            raise RefusedError(413, f"The request has {stated:,} of at most {most:,} bytes. Send less.")
        if self._bytes + stated > self._limits.waiting_bytes:
            raise RefusedError(503, "Too many bytes are in work.", RETRY_AFTER_S)
        self._bytes += stated
        return stated

    async def _body(self, receive: Receive) -> bytes:
        """The whole body, if it comes in time.

        Raises:
            RefusedError: too large, too slow, or the other side has gone.
        """
        parts = bytearray()
        end = time.monotonic() + self._limits.body_seconds
        while True:
            patience = min(self._limits.idle_seconds, end - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), max(patience, 0.001))
            except TimeoutError:
                raise RefusedError(408, "The upload is too slow. Send it again, or less at once.") from None
            if message["type"] == "http.disconnect":
                raise RefusedError(408, "The upload ended before it was whole.")
            parts += message.get("body", b"")
            if len(parts) > self._limits.body_bytes:
                raise RefusedError(413, f"The limit is {self._limits.body_bytes:,} bytes. Send less at once.")
            if not message.get("more_body"):
                return bytes(parts)

    # ---- what goes out

    def _answering(self, send: Send) -> Send:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.add("requests", status=str(message["status"]))
                there = {name.lower() for name, _ in message.get("headers", ())}
                extra = [(name, value) for name, value in _HEADERS.items() if name not in there]
                if b"cache-control" not in there:
                    extra.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        return answer

    async def _refuse(self, refusal: RefusedError, answer: Send) -> None:
        body = json.dumps({"error": refusal.sentence}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            # What is left of a body that was not read must not be taken for the next request.
            (b"connection", b"close"),
        ]
        if refusal.retry_after is not None:
            headers.append((b"retry-after", str(refusal.retry_after).encode()))
        if refusal.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await answer({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await answer({"type": "http.response.body", "body": body})


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _bucket(buckets: dict[str, _Bucket], address: str, full: float) -> _Bucket:
    if len(buckets) > _MOST_ADDRESSES:
        buckets.clear()  # an attacker with so many addresses is not held by rates anyway
    return buckets.setdefault(address, _Bucket(full))


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Hand the body over as one message, then whatever comes: the other side going away."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
