"""Runs the application on a socket: what is printed, how connections are held to time, how it ends."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from contracts.errors import UsageError
from service.limits import Limits
from service.service import Service, Settings
from service.web.access import Access, check_host_option, names_of, own_token, token_of_file
from service.web.app import application

_LONGEST_HEAD = 16 << 10  # bytes


def serve(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    token_file: Path | None = None,
    names: Sequence[str] = (),
    announce: Callable[[str, bool], None],
) -> None:
    """Serve until the process is told to end.

    Args:
        settings: what the service is made of.
        host: address to listen on.
        port: 0 for any that is free.
        token_file: holds the token; None for the store's own.
        names: further host names by which the service is called, such as a proxy's.
        announce: is told the first address, with the token, and whether other machines reach it, once the
            service answers.

    Raises:
        UsageError: the address cannot be listened on, or opens the service without a token file.
        OutnumberedError: the model or the store cannot be used.
    """
    is_open = check_host_option(host, token_file)
    token = own_token(settings.store) if token_file is None else token_of_file(token_file)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    access = Access(token, port, is_open, names_of([*names, host]))
    service = Service(settings)
    try:
        service.start()
        app = application(service, access)
        config = uvicorn.Config(
            app,
            http=timed_protocol(settings.limits),
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="warning",
            # The first address holds the token, which must not be in any log.
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=_LONGEST_HEAD,
        )
        announce(f"http://{_in_url(host)}:{port}/?token={token}", is_open)
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        service.stop()
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        [family, kind, _, _, address] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(256)
    except OSError as error:
        raise UsageError(
            f"--host {host} --port {port}: {error.strerror or error}. Choose another port, or 0 for any."
        ) from None
    return found


def _in_url(host: str) -> str:
    """A host as it stands in an address that a browser on this machine opens."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if address.version == 6 else host


def timed_protocol(limits: Limits) -> type[H11Protocol]:
    """Uvicorn's HTTP/1.1 with a bound on connections and on the time that the head of a request may take.

    uvicorn waits for a head without end, so that a few hundred connections that send a letter a minute would
    keep everybody else out.
    """

    class TimedProtocol(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
                return
            self._start_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            if self._head_timer is None and not self._is_busy():
                self._start_timer()
            super().data_received(data)
            if self.cycle is not before:
                self._stop_timer()

        def _is_busy(self) -> bool:
            """Whether a request is being answered, whose body has a timer of its own."""
            return self.cycle is not None and not self.cycle.response_complete

        def _start_timer(self) -> None:
            self._head_timer = self.loop.call_later(limits.head_seconds, self._too_slow)

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _too_slow(self) -> None:
            self._head_timer = None
            if not self._is_busy():
                self.transport.close()

    return TimedProtocol
